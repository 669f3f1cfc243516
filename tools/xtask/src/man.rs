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
    let mut lines = help.lines().skip_while(|line| line.trim().is_empty()).peekable();
    let summary = lines.next_if(|line| !is_heading(line) && !is_usage(line)).unwrap_or_default();
    let mut page = format!(".TH {} 1\n.SH NAME\n{name} \\- {}\n", name.to_uppercase(), plain(summary));
    page.push_str(".SH DESCRIPTION\n.nf\n");
    for line in lines {
        if let Some(usage) = line.strip_prefix("Usage:") {
            page.push_str(&format!(".fi\n.SH SYNOPSIS\n.nf\n{}\n", plain(usage.trim_start())));
        } else if is_heading(line) {
            page.push_str(&format!(".fi\n.SH {}\n.nf\n", line.trim_end_matches(':').to_uppercase()));
        } else {
            page.push_str(&plain(line));
            page.push('\n');
        }
    }
    page.push_str(".fi\n");
    page
}

fn is_usage(line: &str) -> bool {
    line.starts_with("Usage:")
}

/// `Options:` at the left margin.
fn is_heading(line: &str) -> bool {
    !is_usage(line) && line.ends_with(':') && line.chars().next().is_some_and(char::is_uppercase)
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
            ".TH TOOL 1\n.SH NAME\ntool \\- Does a thing\n.SH DESCRIPTION\n.nf\n\n.fi\n.SH SYNOPSIS\n.nf\n\
             tool [OPTIONS]\n\n.fi\n.SH OPTIONS\n.nf\n  \\-x  .cut\n.fi\n"
        );
    }

    #[test]
    fn a_leading_dot_is_not_a_request() {
        assert_eq!(plain(".profile"), "\\&.profile");
    }
}
