//! Text that fits where it is shown.

use std::fmt::Write as _;

use cuckoo_core::{Wei, format_cai};

/// Columns of a page.
const WIDTH: usize = 80;
/// Columns of an amount in a table.
const NARROW: usize = 8;

/// A line, and its rest on further ones where it is longer than a page is wide. A word that is longer stays whole.
pub(super) fn paragraph(page: &mut String, indent: usize, text: &str) -> std::fmt::Result {
    let mut column = 0;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if column == 0 {
            write!(page, "{:indent$}", "")?;
            column = indent;
        } else if column + 1 + width > WIDTH {
            let hanging = indent + 2;
            write!(page, "\n{:hanging$}", "")?;
            column = hanging;
        } else {
            page.push(' ');
            column += 1;
        }
        page.push_str(word);
        column += width;
    }
    page.push('\n');
    Ok(())
}

/// An amount in CAI to six places.
pub(super) fn short(amount: Wei) -> String {
    let text = format_cai(amount);
    match text.split_once('.') {
        Some((whole, fraction)) if fraction.len() > 6 => {
            let fraction = fraction[..6].trim_end_matches('0');
            if fraction.is_empty() {
                whole.to_owned()
            } else {
                format!("{whole}.{fraction}")
            }
        }
        _ => text,
    }
}

/// An amount in CAI as precise as a column of a table has room for.
pub(super) fn narrow(amount: Wei) -> String {
    let text = short(amount);
    let whole = text.split('.').next().unwrap_or_default();
    match (text.len(), whole.len()) {
        (0..=NARROW, _) => text,
        (_, NARROW..) if whole.len() > NARROW => format!("{}M", &whole[..whole.len() - 6]),
        // No room for a digit behind the point.
        (_, 7..) => whole.to_owned(),
        _ => {
            let cut = text[..NARROW].trim_end_matches('0');
            cut.trim_end_matches('.').to_owned()
        }
    }
}

/// A number to three or four digits, such as `327.7k`.
pub(super) fn rounded(number: f64) -> String {
    if number < 10.0 {
        return format!("{number:.2}");
    }
    let mut number = number;
    for unit in ["", "k", "M", "G"] {
        if number < 999.95 {
            return format!("{number:.1}{unit}");
        }
        number /= 1_000.0;
    }
    format!("{number:.1}T")
}

/// The beginning of a text, with a sign where something is left out.
pub(super) fn clip(text: &str, width: usize) -> String {
    let text = plain(text);
    if text.chars().count() <= width {
        return text;
    }
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain(['…']).collect()
}

/// Text of others without what a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use cuckoo_core::cai;

    use super::*;

    #[test]
    fn amounts_fit_their_column() {
        for (amount, text) in [
            (cai(1) / Wei::from(10_000_000), "0"),
            (cai(1) / Wei::from(3), "0.333333"),
            (cai(2_000_000), "2000000"),
            (cai(100) / Wei::from(3), "33.33333"),
            (cai(200_000) / Wei::from(3), "66666.66"),
            (cai(123_456) + cai(4) / Wei::from(100), "123456"),
            (cai(3_000_001) / Wei::from(3), "1000000"),
            (cai(30_000_001) / Wei::from(3), "10000000"),
            (cai(10_000_000) + cai(1) / Wei::from(2), "10000000"),
            (cai(300_000_000), "300M"),
            (cai(1_234_567_890), "1234M"),
        ] {
            assert_eq!(narrow(amount), text);
        }
    }

    #[test]
    fn numbers_and_texts_are_cut() {
        for (number, text) in [
            (0.04, "0.04"),
            (42.26, "42.3"),
            (999.96, "1.0k"),
            (327_680.0, "327.7k"),
            (5e15, "5000.0T"),
        ] {
            assert_eq!(rounded(number), text);
        }
        assert_eq!(clip("shapes", 6), "shapes");
        assert_eq!(clip("gé\x1bants", 5), "gé a…");
    }

    #[test]
    fn long_lines_go_on_below() {
        let mut page = String::new();
        paragraph(&mut page, 2, &"four ".repeat(20)).unwrap();
        let lines: Vec<_> = page.lines().collect();
        assert_eq!(lines.len(), 2, "{page}");
        assert!(lines[0].starts_with("  four") && lines[0].len() <= WIDTH);
        assert!(lines[1].starts_with("    four"), "{page}");
        assert_eq!(page.matches("four").count(), 20);
        let mut long = String::new();
        paragraph(&mut long, 0, &"x".repeat(100)).unwrap();
        assert_eq!(long, format!("{}\n", "x".repeat(100)));
    }
}
