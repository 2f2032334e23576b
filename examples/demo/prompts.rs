//! The demo's prompts: a walk through the grammar that the shapes model was trained on.

const SIZES: [&str; 2] = ["large", "small"];
const COLOURS: [&str; 8] = ["red", "green", "blue", "yellow", "purple", "orange", "white", "black"];
const SHAPES: [&str; 6] = ["circle", "square", "triangle", "diamond", "cross", "ring"];

/// The first `count` prompts of a fixed order in which neighbours differ in every word.
pub(crate) fn prompts(count: usize) -> Vec<String> {
    (0..count).map(prompt).collect()
}

fn prompt(index: usize) -> String {
    let shape = SHAPES[index % SHAPES.len()];
    let colour = COLOURS[(index + index / COLOURS.len()) % COLOURS.len()];
    // One to seven steps on from the shape's colour: never the same.
    let step = 1 + (index * 3) % (COLOURS.len() - 1);
    let at = COLOURS.iter().position(|name| *name == colour).unwrap_or_default();
    let background = COLOURS[(at + step) % COLOURS.len()];
    let size = SIZES[(index / SHAPES.len()) % SIZES.len()];
    format!("a {size} {colour} {shape} on {} {background} background", article(background))
}

fn article(word: &str) -> &'static str {
    if word.starts_with('o') { "an" } else { "a" }
}
