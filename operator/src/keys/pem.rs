//! PEM by the rules of Go's `encoding/pem`, with which cosign reads keys: what
//! another reader would forgive (a key on one line, blanks before it), that one
//! does not.

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

const START: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"\n-----END ";
const DASHES: &[u8] = b"-----";

/// A block: what is between a line BEGIN and a line END.
pub(super) struct Block<'a> {
    /// What both lines name.
    pub(super) label: &'a [u8],
    /// What the base64 between them, after the headers, says.
    pub(super) bytes: Zeroizing<Vec<u8>>,
}

/// The first block. As there, a block that is broken is passed over, and what is
/// around it is nothing.
pub(super) fn first(text: &[u8]) -> Option<Block<'_>> {
    let mut rest = text;
    loop {
        let end = find(rest, END)?;
        // What is tried next, if this is none.
        let after = rest.get(end + END.len()..)?;
        let begin = rest.get(..end).and_then(|before| find_last(before, START));
        let begin = begin.filter(|at| *at == 0 || rest.get(at - 1) == Some(&b'\n'));
        let inside = begin.and_then(|at| rest.get(at + START.len()..));
        match inside.map(|inside| block(inside, after)) {
            Some(Found::Block(block)) => return Some(block),
            Some(Found::Nothing) => return None,
            Some(Found::Broken(next)) => rest = next,
            None => rest = after,
        }
    }
}

enum Found<'a> {
    Block(Block<'a>),
    /// Broken, and where to look on.
    Broken(&'a [u8]),
    /// No block, and none after it.
    Nothing,
}

/// The block whose BEGIN is before `text`, and whose END before `after`.
fn block<'a>(text: &'a [u8], after: &'a [u8]) -> Found<'a> {
    let (line, mut rest) = first_line(text);
    let Some(label) = line.strip_suffix(DASHES) else { return Found::Broken(after) };
    let mut has_headers = false;
    loop {
        if rest.is_empty() {
            return Found::Nothing;
        }
        let (line, next) = first_line(rest);
        if !line.contains(&b':') {
            break;
        }
        has_headers = true;
        rest = next;
    }
    // Both are ends of one text, so that their lengths say which begins first. The
    // END may be the line after BEGIN; the body is then less than nothing.
    let Some(body) = rest.len().checked_sub(after.len() + END.len()) else {
        if has_headers {
            // Headers ran over the END.
            return if rest.len() < after.len() { Found::Nothing } else { Found::Broken(after) };
        }
        return match closes(label, after) {
            true => Found::Block(Block { label, bytes: Zeroizing::default() }),
            false => Found::Broken(after),
        };
    };
    if !closes(label, after) {
        return Found::Broken(after);
    }
    let bytes = rest.get(..body).and_then(base64);
    bytes.map_or(Found::Broken(after), |bytes| Found::Block(Block { label, bytes }))
}

/// Whether the rest of a line END names a label, and nothing follows it there.
fn closes(label: &[u8], after: &[u8]) -> bool {
    let rest = after.strip_prefix(label).and_then(|rest| rest.strip_prefix(DASHES));
    rest.is_some_and(|rest| first_line(rest).0.is_empty())
}

/// A line without blanks and tabs at its end, and what follows it.
fn first_line(text: &[u8]) -> (&[u8], &[u8]) {
    let (line, rest) = match text.iter().position(|byte| *byte == b'\n') {
        Some(at) => {
            let (line, rest) = text.split_at(at);
            (line.strip_suffix(b"\r").unwrap_or(line), rest.get(1..).unwrap_or_default())
        }
        None => (text, &[][..]),
    };
    let end = line.iter().rposition(|byte| !matches!(byte, b' ' | b'\t'));
    (line.get(..end.map_or(0, |last| last + 1)).unwrap_or_default(), rest)
}

/// Base64 in which Go reads over blanks, tabs and line ends. Other than there,
/// the bits after the last byte are zero.
fn base64(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let kept = text.iter().filter(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    let kept: Zeroizing<Vec<u8>> = Zeroizing::new(kept.copied().collect());
    let text = str::from_utf8(&kept).ok()?;
    Base64::decode_vec(text).ok().map(Zeroizing::new)
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn find_last(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).rposition(|window| window == part)
}
