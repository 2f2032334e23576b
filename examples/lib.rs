//! What the examples share: the grammar of the prompts that the shapes model was trained on.

/// The sizes a prompt may name.
const SIZES: [&str; 2] = ["large", "small"];
/// The colours a prompt may name, for a shape and for its background.
const COLOURS: [&str; 8] = [
    "red", "green", "blue", "yellow", "purple", "orange", "white", "black",
];
/// The shapes a prompt may name.
const SHAPES: [&str; 6] = ["circle", "square", "triangle", "diamond", "cross", "ring"];

/// Every prompt of the grammar: 672, no shape on a background of its own colour.
pub fn grid() -> Vec<String> {
    let mut prompts = Vec::new();
    for size in SIZES {
        for colour in COLOURS {
            for shape in SHAPES {
                for background in COLOURS
                    .into_iter()
                    .filter(|background| *background != colour)
                {
                    prompts.push(caption(size, colour, shape, background));
                }
            }
        }
    }
    prompts
}

/// The first `count` prompts of a fixed order in which neighbours differ in shape and colours.
pub fn varied(count: usize) -> Vec<String> {
    (0..count)
        .map(|index| {
            let colour = (index + index / COLOURS.len()) % COLOURS.len();
            // One to seven steps on from the shape's colour: never the same.
            let background = (colour + 1 + (index * 3) % (COLOURS.len() - 1)) % COLOURS.len();
            let size = SIZES[(index / SHAPES.len()) % SIZES.len()];
            caption(
                size,
                COLOURS[colour],
                SHAPES[index % SHAPES.len()],
                COLOURS[background],
            )
        })
        .collect()
}

fn caption(size: &str, colour: &str, shape: &str, background: &str) -> String {
    let article = if background.starts_with('o') {
        "an"
    } else {
        "a"
    };
    format!("a {size} {colour} {shape} on {article} {background} background")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_grid_is_whole_and_the_varied_prompts_are_in_it() {
        let grid: HashSet<_> = grid().into_iter().collect();
        assert_eq!(grid.len(), 2 * 8 * 6 * 7);
        let varied = varied(60);
        assert!(varied.iter().all(|prompt| grid.contains(prompt)));
        assert!(
            varied.iter().collect::<HashSet<_>>().len() > 50,
            "few repeat"
        );
    }
}
