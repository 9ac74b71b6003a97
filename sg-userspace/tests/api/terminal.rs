//! Every command on a terminal of 80 columns, and of 200: no line is wider than it is. What
//! can be told beforehand is kept in `tests/fixtures/snapshots`; anew by
//!
//! ```text
//! SG_BLESS=1 cargo test -p sg-userspace --test api terminal
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Read,
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
    ptr::null_mut,
};

use sg_userspace::testbed::Daemon;
use textwrap::core::display_width;

use super::{
    client::daemon,
    walk::{all, walk},
};
use crate::world::{Way, World, bin, can_run, eventually, lets_in};

/// Commands whose answer is a file, for other programs: a line that was broken would be another.
const FILES: &[&str] = &["api", "backup", "completions", "export", "group export", "snapshot show"];

/// Commands that say what was measured, or when something was: numbers of any length, of which
/// the [`shape`] is kept.
const MEASURED: &[&str] = &["status", "stats"];

/// Commands whose answer is another one each time: made-up ids that are broken over lines, flows that end.
const PASSING: &[&str] = &["flows", "group list", "interface show"];

/// What objects are called whose names are made up.
const IDS: &[&str] = &["sg-", "sgr-", "pl-", "prl-", "eni-"];

/// Runs `sgctl` with a terminal of so many columns and no input: whether it succeeded, and
/// all that is on the terminal then.
fn on_terminal(daemon: &Daemon<'_>, columns: u16, no_color: bool, arguments: &[&str]) -> (bool, String) {
    let socket = daemon.dir().join("sgd.sock").display().to_string();
    run_on_terminal(daemon, columns, no_color, &bin().join("sgctl"), &[&["--socket", &socket], arguments].concat())
}

/// The same with any program.
fn run_on_terminal(
    daemon: &Daemon<'_>,
    columns: u16,
    no_color: bool,
    program: &Path,
    arguments: &[&str],
) -> (bool, String) {
    let shown = daemon.enter(|| {
        let size = libc::winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let (mut here, mut there) = (-1, -1);
        // SAFETY: two places to write to; no name and no settings are asked for.
        let made = unsafe { libc::openpty(&raw mut here, &raw mut there, null_mut(), null_mut(), &raw const size) };
        assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: descriptors that nobody else owns.
        let (mut here, there) = unsafe { (File::from_raw_fd(here), OwnedFd::from_raw_fd(there)) };
        let mut command = Command::new(program);
        command.args(arguments).env_remove("COLUMNS").env("TERM", "xterm-256color");
        if no_color {
            command.env("NO_COLOR", "1");
        } else {
            command.env_remove("NO_COLOR");
        }
        command.stdin(Stdio::null()).stdout(there.try_clone()?).stderr(there);
        // Else programs ask the terminal of whoever runs the tests.
        // SAFETY: two calls that may be made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                match libc::ioctl(1, libc::TIOCSCTTY, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            })
        };
        let mut child = command.spawn()?;
        drop(command);
        let mut bytes = Vec::new();
        // That the other end is closed is an error here.
        let _ = here.read_to_end(&mut bytes);
        Ok((child.wait()?.success(), String::from_utf8(bytes)?.replace("\r\n", "\n")))
    });
    shown.unwrap()
}

/// Lines that are too wide, but for those of one word: an id or a path is not broken.
fn too_wide(text: &str, columns: u16) -> Vec<&str> {
    text.lines().filter(|l| display_width(l) > columns.into() && l.trim().contains(' ')).collect()
}

/// Whether a word has small and large letters behind its first one, as a secret has.
fn is_mixed(word: &str) -> bool {
    let is = |kind: fn(&u8) -> bool| word.bytes().skip(1).any(|b| kind(&b));
    is(u8::is_ascii_lowercase) && is(u8::is_ascii_uppercase)
}

/// A word, each of its numbers as 0.
fn numbers(word: &str) -> String {
    let mut out = String::new();
    for c in word.chars() {
        match c {
            '0'..='9' if out.ends_with('0') => {}
            '0'..='9' => out.push('0'),
            _ => out.push(c),
        }
    }
    out
}

/// What is shown, whatever the length of its numbers: each is 0, columns are as wide as they
/// come, and a line that was broken is whole. Which bounds are the fullest is left out.
fn shape(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut of_room = false;
    for line in text.lines() {
        let words: Vec<String> = line.split_whitespace().map(numbers).collect();
        let words = words.join(" ");
        of_room = words.starts_with("the fullest") || of_room && !words.contains(" bounds;");
        if of_room && !words.starts_with("the fullest") {
            continue;
        }
        match lines.last_mut() {
            Some(last) if line.starts_with("  ") && !line.starts_with("   ") => *last += &format!(" {words}"),
            _ => lines.push(words),
        }
    }
    lines.join("\n") + "\n"
}

/// A word, without what is another one the next time.
fn masked(word: &str) -> String {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let id = IDS.iter().find_map(|kind| Some((kind, word.strip_prefix(kind)?)));
    match id {
        Some((kind, rest)) if rest.len() >= 12 => format!("{kind}{}", "x".repeat(rest.len())),
        _ if digits >= 8 && (word.ends_with('Z') && word.contains('T') || word.matches('-').count() == 2) => {
            word.replace(|c: char| c.is_ascii_digit(), "0")
        }
        _ if (digits > 0 || is_mixed(word)) && word.len() >= 16 && word.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            "X".repeat(word.len())
        }
        _ => word.to_owned(),
    }
}

fn mask(text: &str) -> String {
    let of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':');
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| of_word(c) != of_word(first)).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        out += &if of_word(first) { masked(part) } else { part.to_owned() };
        rest = after;
    }
    // Cells are filled up to the end of the line, by what stands in them.
    out.lines().map(|l| l.trim_end().to_owned() + "\n").collect()
}

/// Compares what was shown with what is kept, or keeps it.
fn kept(columns: u16, shown: &BTreeMap<String, String>) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/snapshots");
    let bless = std::env::var_os("SG_BLESS").is_some();
    let mut other = Vec::new();
    for (command, text) in shown {
        let file = dir.join(format!("{}.{columns}.txt", command.replace(' ', "-")));
        if bless {
            fs::create_dir_all(&dir).unwrap();
            fs::write(&file, text).unwrap();
        } else if fs::read_to_string(&file).unwrap_or_default() != *text {
            other.push(format!("{}:\n{text}", file.file_name().unwrap().display()));
        }
    }
    let first = other.first().map_or("", String::as_str);
    assert!(
        other.is_empty(),
        "{} of what is kept is shown otherwise (SG_BLESS=1 keeps it as it is now); {first}",
        other.len()
    );
}

/// Has packets cross the device both ways, until that is known: what there is to tell is the same each time.
fn speak(world: &World, daemon: &Daemon<'_>) {
    for (from, to) in [(&world.instance, "192.0.2.10"), (&world.client, "10.0.0.10")] {
        let _ = from.ping(to.parse().unwrap()).unwrap();
    }
    eventually("packets are seen both ways", || !daemon.sgctl(&["status"]).unwrap().1.contains("none since"));
}

/// The whole walk, on a terminal.
fn walked(columns: u16, no_color: bool) {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = daemon(&world);
    let dir = daemon.dir().to_str().unwrap().to_owned();
    let mut shown: BTreeMap<String, String> = BTreeMap::new();
    let mut wide = Vec::new();
    walk(&daemon, |command, line| {
        let (good, text) = on_terminal(&daemon, columns, no_color, line);
        let line = line.join(" ");
        assert!(good, "{line}: {text}");
        assert!(!no_color || !text.contains('\x1b'), "{line}: {text:?}");
        if FILES.contains(&command) {
            return;
        }
        wide.extend(too_wide(&text, columns).iter().map(|l| format!("{line}: {l}")));
        if command == "apply" {
            speak(&world, &daemon);
        }
        // How a narrow table breaks its lines is a matter of how long its numbers are.
        let varies = PASSING.contains(&command) || columns < 200 && MEASURED.contains(&command);
        if text.contains(&dir) || varies {
            return;
        }
        let mut text = mask(&text);
        if MEASURED.contains(&command) {
            text = shape(&text);
        }
        let line = mask(&line.replace(&dir, "DIR"));
        *shown.entry(command.to_owned()).or_default() += &format!("$ sgctl {line}{text}");
    });
    assert!(wide.is_empty(), "wider than {columns} columns:\n{}", wide.join("\n"));
    kept(columns, &shown);
}

#[test]
fn nothing_is_wider_than_a_terminal_of_80_columns() {
    walked(80, false);
}

#[test]
fn nothing_is_wider_than_a_terminal_of_200_columns_nor_coloured_where_nobody_wants_it() {
    walked(200, true);
}

#[test]
fn a_pipe_gets_text_and_nothing_else() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = daemon(&world);
    walk(&daemon, |_, line| {
        let (good, text) = daemon.sgctl(line).unwrap();
        assert!(good && !text.contains(['\x1b', '\r', '\x08']), "{}: {text:?}", line.join(" "));
    });
}

/// What must not be overlooked is red, where colours are shown and wanted.
#[test]
fn what_drops_ones_own_session_is_red_on_a_terminal_alone() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::HostTc);
    world.client.tcp_server(7002).unwrap();
    let daemon = world.daemon();
    let file = daemon.dir().join("closed.yaml");
    fs::write(&file, lets_in(&world, &[7000])).unwrap();
    // Whoever has a connection and is called like this is taken for the way in.
    let sshd = daemon.dir().join("sshd");
    fs::copy("/bin/bash", &sshd).unwrap();
    let script = format!(
        "exec 3<>/dev/tcp/192.0.2.10/7002; {} --socket {} plan -f {}; exit $?",
        bin().join("sgctl").display(),
        daemon.dir().join("sgd.sock").display(),
        file.display()
    );
    let plain = "YOUR OWN SSH CONNECTION would be dropped";
    let red = format!("\x1b[1;31m{plain}");
    let (good, text) = run_on_terminal(&daemon, 200, false, &sshd, &["-c", &script]);
    let line = text.lines().find(|l| l.contains(plain)).unwrap_or_else(|| panic!("{text}"));
    assert!(good && line.starts_with(&red) && line.ends_with("\x1b[0m"), "{text:?}");
    for (good, text) in
        [run_on_terminal(&daemon, 200, true, &sshd, &["-c", &script]), daemon.command(&sshd, &["-c", &script]).unwrap()]
    {
        let is_plain = text.lines().any(|l| l.starts_with(plain));
        assert!(good && is_plain && !text.contains('\x1b'), "{text:?}");
    }
}

#[test]
fn help_and_refusals_fit_too() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = daemon(&world);
    let mut lines: BTreeSet<String> = all().into_iter().map(|command| format!("{command} --help")).collect();
    lines.extend(
        ["--help", "group --help", "nonsense", "diagnose eth7", "group show nothing", "explain eth7 in"]
            .map(String::from),
    );
    lines.insert("explain eth7 ingress tcp 10.0.0.10:22 192.0.2.10:4000".into());
    lines.insert("plan -f /dev/null/nothing".into());
    lines.insert("replay /dev/null -f /dev/null --from /dev/null".into());
    let mut wide = Vec::new();
    for line in lines {
        let (good, text) = on_terminal(&daemon, 80, true, &line.split(' ').collect::<Vec<_>>());
        assert_eq!(good, line.ends_with("--help"), "{line}: {text}");
        assert!(!text.contains('\x1b') && !text.trim().is_empty(), "{line}: {text:?}");
        wide.extend(too_wide(&text, 80).iter().map(|l| format!("{line}: {l}")));
    }
    assert!(wide.is_empty(), "wider than 80 columns:\n{}", wide.join("\n"));
}
