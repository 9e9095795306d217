//! Replays the committed corpus through every body on stable Rust.

use std::fs;
use std::path::Path;

#[test]
fn every_corpus_file_passes() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, body) in spark_fuzz::TARGETS {
        let folder = corpus.join(name);
        let mut files: Vec<_> = fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.expect("a readable folder").path())
            .collect();
        files.sort();
        assert!(files.len() >= 3, "{name} has no corpus to speak of");
        assert!(files.len() <= 100, "{name}: keep what shows something, not all that a fuzzing run adds");
        for file in files {
            let data = fs::read(&file).expect("a readable file");
            if std::panic::catch_unwind(|| body(&data)).is_err() {
                panic!("{name} fails with {}", file.display());
            }
        }
    }
}

#[test]
fn every_prefix_of_the_corpus_passes() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, body) in spark_fuzz::TARGETS {
        let Some(file) = fs::read_dir(corpus.join(name)).expect("a folder").next() else { continue };
        let data = fs::read(file.expect("an entry").path()).expect("a readable file");
        for end in 0..data.len().min(300) {
            body(&data[..end]);
        }
    }
}

#[test]
fn every_target_has_its_file() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let mut files: Vec<_> = fs::read_dir(targets)
        .expect("a folder")
        .map(|entry| {
            entry.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned()
        })
        .collect();
    let mut names: Vec<_> = spark_fuzz::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    files.sort();
    names.sort();
    assert_eq!(files, names);
}
