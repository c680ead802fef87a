//! What a terminal shows, as a picture: text with the styles that the plugin uses.

/// Each style: how a terminal is told, the mark that stands for it while texts are made
/// alike, and how the picture has it.
const STYLES: [(&str, char, &str); 6] = [
    ("\x1b[0m", '\u{e000}', ""),
    ("\x1b[1m", '\u{e001}', "font-weight=\"bold\""),
    ("\x1b[2m", '\u{e002}', "fill=\"#8b949e\""),
    ("\x1b[31m", '\u{e003}', "fill=\"#ff7b72\""),
    ("\x1b[32m", '\u{e004}', "fill=\"#7ee787\""),
    ("\x1b[33m", '\u{e005}', "fill=\"#f2cc60\""),
];

/// Half the height of a line, and the width of a character.
const UNIT: usize = 9;

/// Whether a character is a mark, which takes up no room.
pub fn is_mark(character: char) -> bool {
    STYLES.iter().any(|(_, mark, _)| *mark == character)
}

/// What a terminal was told, with marks for styles.
pub fn marked(told: &str) -> String {
    let told = told.replace('\r', "");
    STYLES.iter().fold(told, |text, (code, mark, _)| text.replace(code, &mark.to_string()))
}

/// The picture of a command and what it showed.
pub fn svg(line: &str, shown: &str) -> String {
    let text = format!("{0}$ {line}{1}\n{shown}", STYLES[1].1, STYLES[0].1);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let width = |line: &&str| line.chars().filter(|c| !is_mark(*c)).count();
    let widest = lines.iter().map(width).max().unwrap_or(0);
    let (across, down) = ((widest + 4) * UNIT, (lines.len() + 1) * 2 * UNIT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {across} {down}\" \
         font-family=\"monospace\" font-size=\"15\" fill=\"#e6edf3\" xml:space=\"preserve\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#0d1117\"/>\n"
    );
    for (number, line) in lines.iter().enumerate() {
        let (x, y) = (2 * UNIT, (number + 1) * 2 * UNIT + UNIT / 2);
        svg.push_str(&format!("<text x=\"{x}\" y=\"{y}\">{}</text>\n", spans(line)));
    }
    svg + "</svg>\n"
}

fn spans(line: &str) -> String {
    let mut out = String::new();
    let mut is_open = false;
    for character in line.chars() {
        match STYLES.iter().find(|(_, mark, _)| *mark == character) {
            Some((_, _, style)) => {
                out.push_str(if is_open { "</tspan>" } else { "" });
                is_open = !style.is_empty();
                if is_open {
                    out.push_str(&format!("<tspan {style}>"));
                }
            }
            None => match character {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                plain => out.push(plain),
            },
        }
    }
    out + if is_open { "</tspan>" } else { "" }
}

#[test]
fn a_picture_has_the_text_and_its_styles() {
    let picture = svg("x", &marked("a \x1b[31m<b>\x1b[0m c\r\n"));
    assert!(picture.contains(">a <tspan fill=\"#ff7b72\">&lt;b&gt;</tspan> c</text>"), "{picture}");
    assert!(picture.contains("<tspan font-weight=\"bold\">$ x</tspan>"), "{picture}");
}
