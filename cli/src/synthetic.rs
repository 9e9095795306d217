//! Modules that are made here: right in every field and checksum, with a body that no processor could run.
//!
//! Every byte of a body depends on its position, so that a swapped or repeated chunk cannot go unnoticed.

use crate::cloud::catalogue::ModuleFile;
use crate::exit::{Code, Failure};
use spark_ota::module::{Dependency, ModuleBuilder, ModuleFunction};

/// Initial stack pointer of modules with a vector table: the end of the Photon's RAM.
const STACK_POINTER: u32 = 0x2002_0000;
const PHOTON: u16 = 6;

/// A module to be made.
#[derive(Clone, Copy, Debug)]
struct Recipe {
    name: &'static str,
    function: ModuleFunction,
    index: u8,
    version: u16,
    needs: [Dependency; 2],
    /// Bytes of the file.
    size: usize,
}

const NOTHING: [Dependency; 2] = [Dependency::NONE; 2];

/// The system of a device that was last updated in 2017: 0.7.0.
const OLD: [Recipe; 3] = [
    Recipe {
        name: "synthetic-bootloader@0.7.0.bin",
        function: ModuleFunction::Bootloader,
        index: 0,
        version: 101,
        needs: NOTHING,
        size: 14_900,
    },
    Recipe {
        name: "synthetic-system-part1@0.7.0.bin",
        function: ModuleFunction::System,
        index: 1,
        version: 207,
        needs: NOTHING,
        size: 212_344,
    },
    Recipe {
        name: "synthetic-system-part2@0.7.0.bin",
        function: ModuleFunction::System,
        index: 2,
        version: 207,
        needs: [Dependency::system(1, 207), Dependency::NONE],
        size: 194_204,
    },
];

/// The system that it needs: 2.2.0, with the dependencies of the real one.
const NEW: [Recipe; 3] = [
    Recipe {
        name: "synthetic-bootloader@2.2.0.bin",
        function: ModuleFunction::Bootloader,
        index: 0,
        version: 1005,
        needs: NOTHING,
        size: 15_124,
    },
    Recipe {
        name: "synthetic-system-part1@2.2.0.bin",
        function: ModuleFunction::System,
        index: 1,
        version: 2202,
        needs: [Dependency::system(2, 207), Dependency::NONE],
        size: 250_956,
    },
    Recipe {
        name: "synthetic-system-part2@2.2.0.bin",
        function: ModuleFunction::System,
        index: 2,
        version: 2202,
        needs: [Dependency::system(1, 2202), Dependency::bootloader(1003)],
        size: 260_840,
    },
];

const APPLICATION: Recipe = Recipe {
    name: "synthetic-application.bin",
    function: ModuleFunction::User,
    index: 1,
    version: 6,
    needs: [Dependency::system(2, 1404), Dependency::NONE],
    size: 17_780,
};

/// Bootloader, system part 1 and system part 2 of 0.7.0.
///
/// # Errors
/// [`Failure`] if a recipe is wrong.
pub fn old_system() -> Result<Vec<ModuleFile>, Failure> {
    OLD.iter().map(make).collect()
}

/// Bootloader, system part 1 and system part 2 of 2.2.0.
///
/// # Errors
/// [`Failure`] if a recipe is wrong.
pub fn new_system() -> Result<Vec<ModuleFile>, Failure> {
    NEW.iter().map(make).collect()
}

/// An application built for a newer system than 0.7.0.
///
/// # Errors
/// [`Failure`] if the recipe is wrong.
pub fn application() -> Result<ModuleFile, Failure> {
    make(&APPLICATION)
}

/// A system of the same versions and dependencies as [`old_system`] and [`new_system`], each module of a few hundred
/// bytes.
///
/// # Errors
/// [`Failure`] if a recipe is wrong.
pub fn small(recipes_of_new: bool) -> Result<Vec<ModuleFile>, Failure> {
    let recipes = if recipes_of_new { NEW } else { OLD };
    recipes
        .iter()
        .map(|recipe| make(&Recipe { size: 1_400 + usize::from(recipe.index) * 700, ..*recipe }))
        .collect()
}

fn make(recipe: &Recipe) -> Result<ModuleFile, Failure> {
    let wrong = |error: &dyn core::fmt::Display| {
        Failure::new(Code::Software, format_args!("cannot make {}: {error}", recipe.name), "report this")
    };
    let mut builder =
        ModuleBuilder::new(PHOTON, recipe.function, recipe.index, recipe.version).depends_on(recipe.needs);
    if recipe.function != ModuleFunction::User {
        builder = builder.vector_table(STACK_POINTER);
    }
    let body_len = builder.body_len(recipe.size).ok_or_else(|| wrong(&"it is too small"))?;
    let body = body(body_len, u32::from(recipe.version) << 8 | u32::from(recipe.index));
    let file = builder.body(&body).build().map_err(|error| wrong(&error))?;
    ModuleFile::new(recipe.name, &file)
}

/// Position-dependent bytes.
fn body(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    core::iter::repeat_with(next).take(len).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_have_the_sizes_and_dependencies_of_their_recipes() {
        for (recipe, file) in NEW.iter().zip(new_system().unwrap()) {
            assert_eq!(file.image.len(), recipe.size, "{}", recipe.name);
            assert_eq!(file.prefix.dependencies, recipe.needs);
        }
        assert_eq!(new_system().unwrap()[1].image.len(), 250_956, "as in the field report");
        assert_eq!(old_system().unwrap().len(), 3);
        assert_eq!(application().unwrap().prefix.dependencies[0].version, 1404);
    }
}
