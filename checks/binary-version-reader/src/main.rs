//! Our modules for binary-version-reader of npm, and its modules for us.
//!
//! ```text
//! binary-version-reader-check generate FOLDER COUNT SEED    modules, and what is in them, one JSON object a line
//! binary-version-reader-check judge FOLDER                  those that it made of them
//! ```

mod generate;
mod judge;

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["generate", folder, count, seed] => {
            generate::generate(Path::new(folder), count.parse()?, seed.parse()?)
        }
        ["judge", folder] => judge::judge(Path::new(folder)),
        _ => Err("generate FOLDER COUNT SEED, or judge FOLDER".into()),
    }
}
