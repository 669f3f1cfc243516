//! Man pages out of what the programs say of themselves.
//!
//! A program's options are defined once, in the program; its `--help` text is turned into a page,
//! so that the page cannot say anything else.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::run;

/// The page of the program at `path`, as troff source.
pub(crate) fn page(path: &Path) -> Result<String> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let help = run::output(Command::new(path).arg("--help").env("COLUMNS", "78"))?;
    if help.trim().is_empty() {
        bail!("{}: --help prints nothing", path.display());
    }
    Ok(render(&name, &help))
}

fn render(name: &str, help: &str) -> String {
    let (about, rest) = help.split_at(help.find("Usage:").unwrap_or(0));
    let (summary, description) = about.trim().split_once('\n').unwrap_or((about.trim(), ""));
    let mut page = format!(".TH {} 1\n.SH NAME\n{name} \\- {}\n", name.to_uppercase(), plain(summary));
    let mut section = |heading: &str, lines: &[&str]| {
        let body: Vec<String> = lines.iter().map(|line| plain(line)).collect();
        page.push_str(&format!(
            ".SH {}\n.nf\n{}\n.fi\n",
            heading.to_uppercase(),
            body.join("\n").trim_matches('\n')
        ));
    };
    if !description.trim().is_empty() {
        section("Description", &description.lines().collect::<Vec<_>>());
    }
    let mut heading = "Synopsis".to_owned();
    let mut body = Vec::new();
    for line in rest.strip_prefix("Usage: ").unwrap_or(rest).lines() {
        if is_heading(line) {
            section(&heading, &body);
            heading = line.trim_end_matches(':').to_owned();
            body.clear();
        } else {
            body.push(line);
        }
    }
    section(&heading, &body);
    page
}

/// `Options:` at the left margin.
fn is_heading(line: &str) -> bool {
    line.ends_with(':') && line.chars().next().is_some_and(char::is_uppercase)
}

/// Text that troff shall not take for a request or an escape.
fn plain(line: &str) -> String {
    let escaped = line.replace('\\', "\\e").replace('-', "\\-");
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_becomes_sections() {
        let page = render("tool", "Does a thing\n\nUsage: tool [OPTIONS]\n\nOptions:\n  -x  .cut\n");
        assert_eq!(
            page,
            ".TH TOOL 1\n.SH NAME\ntool \\- Does a thing\n.SH SYNOPSIS\n.nf\ntool [OPTIONS]\n.fi\n\
             .SH OPTIONS\n.nf\n  \\-x  .cut\n.fi\n"
        );
    }

    #[test]
    fn more_than_a_summary_is_a_description() {
        let page = render("tool", "Does a thing.\n\nMore of it.\n\nUsage: tool\n");
        assert!(
            page.contains("tool \\- Does a thing.\n.SH DESCRIPTION\n.nf\nMore of it.\n.fi\n.SH SYN"),
            "{page}"
        );
    }

    #[test]
    fn a_leading_dot_is_not_a_request() {
        assert_eq!(plain(".profile"), "\\&.profile");
    }
}
