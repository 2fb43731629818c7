//! Shell completions and man pages, generated from the definitions of the command lines.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use super::exit::{CommandError, Exit, print};
use super::options::Options;
#[cfg(feature = "daemon")]
use crate::daemon;

/// Prints the completion script for `shell`.
///
/// # Errors
///
/// Standard output cannot be written.
pub(super) fn completions(shell: Shell) -> Result<Exit, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Options::command(), "confdctl", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Answered)
}

/// Writes the man pages to `man1` and `man8` below `dir`, and prints their paths.
///
/// # Errors
///
/// A file or standard output cannot be written.
pub(super) fn man(dir: &Path) -> Result<Exit, CommandError> {
    let mut command = Options::command();
    command.build();
    let mut written = Vec::new();
    let result = write_tree(&command, dir, &mut written);
    #[cfg(feature = "daemon")]
    let result = result.and_then(|()| write_page(&daemon::command(), "8", dir, &mut written));
    result.map_err(|error| {
        let text = format!("cannot write man pages below {}: {error}", dir.display());
        CommandError::new(Exit::Local, text)
    })?;
    for path in written {
        print(&format!("{}\n", path.display()))?;
    }
    Ok(Exit::Answered)
}

fn write_tree(command: &Command, dir: &Path, written: &mut Vec<PathBuf>) -> io::Result<()> {
    write_page(command, "1", dir, written)?;
    let commands = command.get_subcommands();
    let mut commands = commands.filter(|command| command.get_name() != "help");
    commands.try_for_each(|command| write_tree(command, dir, written))
}

fn write_page(
    command: &Command,
    section: &str,
    dir: &Path,
    written: &mut Vec<PathBuf>,
) -> io::Result<()> {
    let man = Man::new(with_one_line_about(command.clone()))
        .section(section)
        .source(concat!("ganeti-confd ", env!("CARGO_PKG_VERSION")));
    let dir = dir.join(format!("man{section}"));
    fs::create_dir_all(&dir)?;
    let path = dir.join(man.get_filename());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(help) = command.get_after_help() {
        page.extend_from_slice(sections(&help.to_string()).as_bytes());
    }
    fs::write(&path, page)?;
    written.push(path);
    Ok(())
}

/// Moves all but the first line of `about` to the description: the NAME section holds one line.
fn with_one_line_about(command: Command) -> Command {
    let about = command.get_about().map(ToString::to_string);
    let about = about.unwrap_or_default();
    let first = about.lines().next().unwrap_or_default().to_owned();
    command.about(first).long_about(about)
}

/// Converts help text to roff. A paragraph that starts with a line like `Files:` becomes a section;
/// line breaks are preserved.
fn sections(help: &str) -> String {
    let mut page = String::new();
    for paragraph in help.split("\n\n") {
        match paragraph.split_once(":\n") {
            Some((heading, body)) if !heading.contains('\n') => {
                page += &format!(".SH \"{}\"\n.nf\n", heading.to_uppercase());
                body.lines().for_each(|line| page += &verbatim(line));
                page += ".fi\n";
            }
            _ => {
                page += ".PP\n";
                paragraph.lines().for_each(|line| page += &verbatim(line));
            }
        }
    }
    page
}

/// Escapes a line so that roff prints it unchanged.
fn verbatim(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-");
    format!("\\&{line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_becomes_sections() {
        assert_eq!(
            sections("Files (below /x):\n  a-b\n.c\n\nThe end."),
            ".SH \"FILES (BELOW /X)\"\n.nf\n\\&  a\\-b\n\\&.c\n.fi\n.PP\n\\&The end.\n"
        );
    }
}
