//! What may follow the words of a command line, by its definition. Of the library that
//! generates the shells' scripts this is a part that is not stable.

use clap::{Arg, Command, Parser};

use crate::flags::Connection;

/// What may stand in the place of the last word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub word: String,
    /// What it means, in a line.
    pub about: String,
}

/// What only the cluster can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Ring,
    Namespace,
}

/// What may stand in the place of the last of these words, and what else by its name.
pub fn after(cli: &Command, words: &[String]) -> (Vec<Word>, Option<Wanted>) {
    let (last, before) = words.split_last().map_or(("", &[][..]), |(last, all)| (last, all));
    let (mut command, mut positional, mut flag) = (cli, 0, None);
    for word in before {
        if flag.take().is_some() {
            continue;
        }
        if word.starts_with('-') {
            flag = named(command, word).filter(|arg| arg.get_action().takes_values());
            continue;
        }
        match command.find_subcommand(word) {
            Some(found) => (command, positional) = (found, 0),
            None => positional += 1,
        }
    }
    let begun = |mut words: Vec<Word>| {
        words.retain(|word| word.word.starts_with(last));
        words
    };
    if let Some(flag) = flag {
        return (begun(values(flag)), wanted(flag));
    }
    if last.starts_with('-') {
        return (begun(flags(command)), None);
    }
    if command.has_subcommands() {
        return (begun(subcommands(command)), None);
    }
    let all: Vec<&Arg> = command.get_positionals().collect();
    let of_many = |arg: &&&Arg| arg.get_num_args().is_some_and(|range| range.max_values() > 1);
    let argument = all.get(positional).or_else(|| all.last().filter(of_many)).copied();
    (begun(argument.map(values).unwrap_or_default()), argument.and_then(wanted))
}

/// The cluster that these words are about, by their flags; nothing if that cannot be told.
pub fn connection(cli: &Command, words: &[String]) -> Option<Connection> {
    let (_, before) = words.split_last()?;
    let mut line = vec!["kubectl-signing".to_owned()];
    let mut before = before.iter();
    while let Some(word) = before.next() {
        let flag = word.split_once('=').map_or(word.as_str(), |(flag, _)| flag);
        if let Some(flag) = named(cli, flag)
            && flag.get_action().takes_values()
        {
            line.push(word.clone());
            if !word.contains('=') {
                line.extend(before.next().cloned());
            }
        }
    }
    line.push("doctor".to_owned());
    crate::Cli::try_parse_from(line).ok().map(|cli| cli.connection)
}

/// The flag that a word names, unless its value stands behind it.
fn named<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| {
        let long = arg.get_long().is_some_and(|long| word.strip_prefix("--") == Some(long));
        let short = arg.get_short().is_some_and(|short| word == format!("-{short}"));
        long || short
    })
}

fn wanted(argument: &Arg) -> Option<Wanted> {
    match argument.get_id().as_str() {
        "ring" => Some(Wanted::Ring),
        "namespace" | "namespaces" => Some(Wanted::Namespace),
        _ => None,
    }
}

fn values(argument: &Arg) -> Vec<Word> {
    let values = argument.get_possible_values().into_iter().filter(|value| !value.is_hide_set());
    values
        .map(|value| Word { word: value.get_name().to_owned(), about: line(value.get_help()) })
        .collect()
}

fn flags(command: &Command) -> Vec<Word> {
    let flags = command.get_arguments().filter(|arg| !arg.is_hide_set());
    flags
        .filter_map(|arg| {
            Some(Word { word: format!("--{}", arg.get_long()?), about: line(arg.get_help()) })
        })
        .collect()
}

fn subcommands(command: &Command) -> Vec<Word> {
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    shown
        .map(|command| Word {
            word: command.get_name().to_owned(),
            about: line(command.get_about()),
        })
        .collect()
}

fn line(text: Option<&clap::builder::StyledStr>) -> String {
    let text = text.map(ToString::to_string).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn completed(line: &str) -> (String, Option<Wanted>) {
        let mut cli = crate::Cli::command();
        cli.build();
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let (words, wanted) = after(&cli, &words);
        let words: Vec<String> = words.into_iter().map(|word| word.word).collect();
        (words.join(" "), wanted)
    }

    #[test]
    fn what_may_follow() {
        for (line, words, wanted) in [
            ("re", "revoke", None),
            ("--names", "--namespace", None),
            ("status -o ", "table wide json yaml", None),
            ("status -o j", "json", None),
            ("status ", "", Some(Wanted::Ring)),
            ("status checkout ", "", None),
            ("--context x status ", "", Some(Wanted::Ring)),
            ("impact checkout --re", "--revoke --resign-list", None),
            ("enroll checkout ", "", Some(Wanted::Namespace)),
            ("enroll checkout a b", "", Some(Wanted::Namespace)),
            ("why x -n ", "", Some(Wanted::Namespace)),
            ("completion ", "kubectl bash zsh fish", None),
            ("nonsense re", "revoke", None),
        ] {
            assert_eq!(completed(line), (words.to_owned(), wanted), "{line:?}");
        }
        let mut cli = crate::Cli::command();
        cli.build();
        for (line, context) in [
            ("status ", Some(None)),
            ("--context prod revoke ", Some(Some("prod"))),
            ("revoke --context=prod ", Some(Some("prod"))),
            ("rotate --yes --context prod -n x ", Some(Some("prod"))),
            ("status -o json --context ", None),
            ("--context --kubeconfig status ", None),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let found = connection(&cli, &words).map(|connection| connection.context);
            assert_eq!(found, context.map(|name| name.map(str::to_owned)), "{line:?}");
        }
        let all = after(&cli, &[String::new()]).0;
        assert!(all.iter().any(|word| word.word == "status" && word.about.starts_with("Show")));
        assert!(all.iter().all(|word| word.word != "__complete"));
    }
}
