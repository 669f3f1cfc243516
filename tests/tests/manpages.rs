//! The man pages against the programs and modules: every option is there, none that is not, and troff has no complaint.
//!
//! An option of a page is the tag of a `.TP` that begins with a dash (programs) or stands before a `=` (modules).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use io_pkt_host::{Kind, Loader};
use system_tests::{Need, cases};

const PAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/man");

/// Pages that describe no program or module of their own.
const WITHOUT_OPTIONS: [&str; 4] = ["io-net.5", "mount.io-pkt.8", "qnet.3", "qnet.7"];

type Options = BTreeSet<String>;

/// A page: its name, section and text.
struct Page {
    name: String,
    section: char,
    text: String,
}

fn pages() -> Result<Vec<Page>> {
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(PAGES)? {
        let path = entry?.path();
        let file = path.file_name().and_then(|name| name.to_str()).context("a name in UTF-8")?;
        let (name, section) = file.rsplit_once('.').with_context(|| file.to_owned())?;
        if !WITHOUT_OPTIONS.contains(&file) {
            let section = section.chars().next().context("a section")?;
            pages.push(Page { name: name.to_owned(), section, text: std::fs::read_to_string(&path)? });
        }
    }
    ensure!(pages.len() > 10, "there are pages in {PAGES}");
    Ok(pages)
}

/// Where cargo put programs and modules: this test is in `deps` there.
fn built() -> Result<PathBuf> {
    let us = std::env::current_exe()?;
    us.ancestors().nth(2).map(Path::to_owned).context("a folder above this test's")
}

impl Page {
    /// The tags of its `.TP`s, without fonts and escapes.
    fn tags(&self) -> impl Iterator<Item = String> {
        let mut lines = self.text.lines();
        std::iter::from_fn(move || {
            lines.by_ref().find(|line| *line == ".TP")?;
            let tag = lines.next()?;
            Some(tag.replace("\\fB", "").replace("\\fI", "").replace("\\fR", "").replace("\\-", "-"))
        })
    }

    /// `-s SIGNAL, --signal SIGNAL` of a program.
    fn dashed(&self) -> Options {
        let words = |tag: String| tag.split(", ").map(str::to_owned).collect::<Vec<_>>();
        let option = |word: String| word.split([' ', '=']).next().unwrap_or_default().to_owned();
        self.tags().flat_map(words).filter(|word| word.starts_with('-')).map(option).collect()
    }

    /// `name=VALUE`, or a bare word, in the section OPTIONS of a module.
    fn named(&self) -> Options {
        let options = self.text.split(".SH OPTIONS\n").nth(1).unwrap_or_default();
        let text = options.split("\n.SH ").next().unwrap_or_default().to_owned();
        let section = Page { name: String::new(), section: '7', text };
        section.tags().map(|tag| tag.split('=').next().unwrap_or_default().to_owned()).collect()
    }
}

/// The options that `--help` tells, those of subcommands included.
fn helped(program: &Path) -> Result<Options> {
    let mut options = Options::new();
    let text = help(program, None)?;
    options_of(&text, &mut options);
    let commands = text.split("\nCommands:\n").nth(1).and_then(|rest| rest.split("\n\n").next());
    for line in commands.unwrap_or_default().lines() {
        if let Some(command) = line.split_whitespace().next().filter(|command| *command != "help") {
            options_of(&help(program, Some(command))?, &mut options);
        }
    }
    Ok(options)
}

fn help(program: &Path, command: Option<&str>) -> Result<String> {
    let output = Command::new(program).args(command).arg("--help").env("COLUMNS", "200").output();
    let output = output.with_context(|| program.display().to_string())?;
    ensure!(output.status.success(), "{} --help: {output:?}", program.display());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Options stand at the left of their lines; other names of theirs in square brackets, or in the line below.
fn options_of(text: &str, options: &mut Options) {
    for line in text.lines() {
        let words = line.trim_start();
        if words.starts_with('-') && line.starts_with("  ") && line.len() - words.len() <= 8 {
            for word in words.split("  ").next().unwrap_or_default().split(", ") {
                let option = word.split([' ', '=']).next().unwrap_or_default();
                options.insert(option.trim_end_matches("...").to_owned());
            }
        }
        for (_, rest) in line.match_indices("alias").map(|(at, _)| line.split_at(at)) {
            let names = rest.split_once(": ").map_or("", |(_, names)| names.split(']').next().unwrap_or(""));
            options.extend(names.split(", ").filter(|name| name.starts_with('-')).map(str::to_owned));
        }
    }
    // What every program has needs no page; `-h` is another thing where `--help` has no short form.
    let plain_help = text.contains("-h, --help");
    for common in ["--help", "-V", "--version"] {
        options.remove(common);
    }
    if plain_help {
        options.remove("-h");
    }
}

fn the_pages_have_the_options_of_the_programs() -> Result<()> {
    let built = built()?;
    let mut checked = 0;
    for page in pages()?.iter().filter(|page| page.section != '7') {
        let there = helped(&built.join(&page.name))?;
        ensure!(
            page.dashed() == there,
            "docs/man/{}.{}: the page has {:?}, the program {there:?}",
            page.name,
            page.section,
            page.dashed()
        );
        checked += 1;
    }
    ensure!(checked >= 10, "{checked} programs");
    Ok(())
}

fn the_pages_have_the_options_of_the_modules() -> Result<()> {
    let built = built()?;
    let mut loader = Loader::default();
    let mut checked = 0;
    for page in pages()?.iter().filter(|page| page.section == '7') {
        let kind = match page.name.split('-').next() {
            Some("devn") => Kind::Driver,
            Some("nr") => Kind::Resolver,
            _ => Kind::Protocol,
        };
        let file = built.join(format!("lib{}.so", page.name.replace('-', "_")));
        let build = loader.load(kind, &file).with_context(|| file.display().to_string())?;
        let there: Options = build.options().iter().map(|option| option.name.clone()).collect();
        ensure!(
            page.named() == there,
            "docs/man/{}.7: the page has {:?}, the module {there:?}",
            page.name,
            page.named()
        );
        checked += 1;
    }
    ensure!(checked >= 6, "{checked} modules");
    Ok(())
}

fn the_pages_name_each_other_rightly() -> Result<()> {
    let all: BTreeSet<String> =
        std::fs::read_dir(PAGES)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    // Pages of the system, and the names that links have.
    let others = ["mount", "umount", "slay", "stat", "kill", "packet", "tcpdump", "tshark"];
    for page in pages()? {
        let see = page.text.split(".SH \"SEE ALSO\"\n").nth(1);
        let see = see.with_context(|| format!("{}.{} has no SEE ALSO", page.name, page.section))?;
        for word in see.split([' ', '\n', ',']).filter(|word| word.contains('(')) {
            let plain = word.replace("\\fB", "").replace("\\fR", "").replace("\\-", "-");
            let (name, section) = plain.trim_end_matches(')').split_once('(').context("name(section)")?;
            let known = all.contains(&format!("{name}.{section}")) || others.contains(&name);
            if !known {
                bail!("{}.{} names {name}({section}), which is not there", page.name, page.section);
            }
        }
    }
    Ok(())
}

fn troff_has_no_complaint() -> Result<()> {
    for entry in std::fs::read_dir(PAGES)? {
        let path = entry?.path();
        let output = Command::new("groff").args(["-ww", "-man", "-Tutf8", "-z"]).arg(&path).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && said.is_empty(), "{}: {said}", path.display());
    }
    Ok(())
}

cases! {
    the_pages_have_the_options_of_the_programs: [],
    the_pages_have_the_options_of_the_modules: [],
    the_pages_name_each_other_rightly: [],
    troff_has_no_complaint: [Need::Program("groff")],
}
