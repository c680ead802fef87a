//! What somebody at a terminal sees: a question, what is drawn in its place, colours.

use anyhow::{Result, ensure};

use crate::{
    kinds::Scene,
    terminal::{END, INTERRUPT, Terminal},
};

/// The size of most of them.
const SIZE: (u16, u16) = (24, 90);

/// Asks, with every answer but the one that rotates, and draws.
pub async fn at_a_terminal(scene: &Scene<'_>) -> Result<()> {
    questions(scene).await?;
    colours(scene).await?;
    progress(scene).await?;
    Ok(())
}

async fn questions(scene: &Scene<'_>) -> Result<()> {
    let Scene { world, ring, namespace, .. } = scene;
    let rotate = format!("kubectl signing rotate {ring} --force");
    let question = format!("Rotate {ring}? [y/N]");
    for (line, question, keys, code, last) in [
        (&rotate, &question, "n\n", 3, "Nothing was changed."),
        (&rotate, &question, "\n", 3, "Nothing was changed."),
        (&rotate, &question, "yesterday\n", 3, "Nothing was changed."),
        (&rotate, &question, END, 3, "Nothing was changed."),
        (&rotate, &question, INTERRUPT, 130, "^C"),
        (
            &format!("kubectl signing revoke {ring} 1 --reason test"),
            &"This cannot be undone. [y/N]".to_owned(),
            "n\n",
            3,
            "Nothing was changed.",
        ),
        (
            &format!("kubectl signing unenroll {ring} {namespace}"),
            &"Unsigned images will start there. [y/N]".to_owned(),
            END,
            3,
            "Nothing was changed.",
        ),
    ] {
        let mut terminal = Terminal::start(world, line, SIZE.0, SIZE.1)?;
        terminal.shows(question).await?;
        terminal.press(keys).await?;
        let ended = terminal.end().await?;
        let shown = terminal.screen().contents();
        ensure!(ended == Some(code), "{line} and {keys:?}: {ended:?}\n{shown}");
        let lines: Vec<&str> = shown.trim_end().lines().collect();
        let shows_last = lines.last().is_some_and(|line| line.ends_with(last));
        ensure!(shows_last, "{line} and {keys:?}:\n{shown}");
        // Whatever was typed, what follows begins a line of its own.
        ensure!(terminal.screen().cursor_position().1 == 0, "{line} and {keys:?}:\n{shown}");
        let is_alone = lines.last() == Some(&last) || keys == INTERRUPT;
        ensure!(is_alone, "{line} and {keys:?}:\n{shown}");
    }
    // One that nobody could see is not asked.
    let mut blind = Terminal::start(world, &format!("{rotate} 2>/dev/null"), SIZE.0, SIZE.1)?;
    ensure!(blind.end().await? == Some(2), "{}", blind.told);
    let asked = world.ring(ring, "{.metadata.annotations.signing\\.odj\\.cloud/rotate}").await?;
    ensure!(asked == "another", "a rotation was asked for: {asked:?}");
    Ok(())
}

/// There are some on a terminal, unless somebody wants none.
async fn colours(scene: &Scene<'_>) -> Result<()> {
    let status = format!("kubectl signing status {}", scene.ring);
    for (line, has_some) in [
        (status.clone(), true),
        (format!("set -o pipefail; {status} | cat"), false),
        (format!("NO_COLOR=1 {status}"), false),
        (format!("NO_COLOR= {status}"), true),
        (format!("TERM=dumb {status}"), false),
        (format!("{status} -o json"), false),
    ] {
        let mut terminal = Terminal::start(scene.world, &line, SIZE.0, SIZE.1)?;
        ensure!(terminal.end().await? == Some(0), "{line}:\n{}", terminal.told);
        let has = terminal.told.contains('\u{1b}');
        ensure!(has == has_some, "{line}:\n{:?}", terminal.told);
    }
    Ok(())
}

/// Who waits at a terminal sees how far it is, and nothing is left of that.
async fn progress(scene: &Scene<'_>) -> Result<()> {
    let images = ["first", "another", "unsigned", "bundled"].map(|name| scene.image(name));
    let line = format!("kubectl signing why {} -n {}", images.join(" "), scene.namespace);
    let mut terminal = Terminal::start(scene.world, &line, 60, 200)?;
    ensure!(terminal.end().await? == Some(3), "{}", terminal.told);
    ensure!(terminal.told.contains("looking at images: 4 of 4"), "{:?}", terminal.told);
    let shown = terminal.screen().contents();
    ensure!(!shown.contains("looking at images"), "{shown}");
    ensure!(shown.starts_with(&format!("Namespace {}", scene.namespace)), "{shown}");
    Ok(())
}

/// Draws in one place while a rotation, which somebody says yes to, goes on beside it: on a
/// terminal with room, on a narrow one and on a low one.
pub async fn a_rotation(scene: &Scene<'_>, from: u32) -> Result<()> {
    let Scene { world, ring, .. } = scene;
    let watch = format!("echo before; kubectl signing status {ring} --watch");
    let mut wide = Terminal::start(world, &watch, 30, 160)?;
    let mut narrow = Terminal::start(world, &watch, 60, 40)?;
    let mut low = Terminal::start(world, &watch, 5, 160)?;
    let is = format!("{ring} is ready");
    for terminal in [&mut wide, &mut narrow, &mut low] {
        terminal.wait("nothing is drawn", |s| s.contents().contains(&is)).await?;
        ensure!(terminal.screen().alternate_screen(), "{}", terminal.told);
    }
    let line = format!("kubectl signing rotate {ring} --force --wait");
    let mut rotate = Terminal::start(world, &line, 60, 120)?;
    rotate.shows("[y/N]").await?;
    rotate.press("y\n").await?;
    let ended = rotate.end().await?;
    let shown = rotate.screen().contents();
    ensure!(ended == Some(0), "{ended:?}\n{shown}");
    let to = from + 1;
    for step in [
        format!("s  version {to} is minted"),
        format!("s  Kyverno has accepted version {to} for the whole soak"),
        format!("s  pipeline {ring}-ci/image-signing holds version {to}"),
        format!("s  version {to} signs"),
    ] {
        ensure!(shown.contains(&step), "{step:?}:\n{shown}");
    }
    // What the narrow one cannot have in a line goes on below, and nothing is lost.
    let words = |screen: &vt100::Screen| {
        screen.contents().split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    let next = format!("when it is asked for: kubectl signing rotate {ring}");
    let holds = format!("{ring}-ci/image-signing (version {to}, Published)");
    for (terminal, lines) in [(&mut wide, 12), (&mut narrow, 40)] {
        let done = |screen: &vt100::Screen| {
            let words = words(screen);
            words.contains(&is) && words.contains(&holds) && words.ends_with(&next)
        };
        terminal.wait("the rotation is not drawn", done).await?;
        let shown = terminal.screen().contents();
        ensure!(shown.starts_with(&is), "{shown}");
        // Each heading stands once: what was drawn before is not below.
        ensure!(shown.matches("FINGERPRINT").count() == 1, "{shown}");
        ensure!(shown.trim_end().lines().count() <= lines, "{shown}");
    }
    let of_low = |screen: &vt100::Screen| {
        let shown = screen.contents();
        shown.starts_with(&is)
            && shown.contains(&format!("\n{to}  "))
            && shown.contains(" more lines")
    };
    low.wait("the head is not drawn", of_low).await?;
    for terminal in [&mut wide, &mut narrow, &mut low] {
        terminal.press(INTERRUPT).await?;
        let ended = terminal.end().await?;
        ensure!(ended == Some(130), "{ended:?}");
        let screen = terminal.screen();
        ensure!(!screen.alternate_screen(), "{}", terminal.told);
        // What stood there before does again.
        ensure!(screen.contents().starts_with("before"), "{}", screen.contents());
        ensure!(!screen.contents().contains("VERSION"), "{}", screen.contents());
    }
    Ok(())
}
