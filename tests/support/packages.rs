//! Packages of npm and pip that tests run, fetched once into `target/libraries`. What cannot be fetched fails the test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const HOW_TO_GET_THEM: &str =
    "this test wants Node 20 with npm and Python 3.10 with pip (Debian: nodejs npm python3-pip), and their registries";

/// The folder for `NODE_PATH`, with what this `package.json` names.
pub fn npm(name: &str, wanted: &str) -> PathBuf {
    let folder = fetched(&format!("{name}-npm"), wanted, "package.json", |folder| {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--prefix"]).arg(folder);
        npm
    });
    folder.join("node_modules")
}

/// The folder for `PYTHONPATH`, with what this `requirements.txt` names.
pub fn pip(name: &str, wanted: &str) -> PathBuf {
    fetched(&format!("{name}-pip"), wanted, "requirements.txt", |folder| {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action", "ignore"]);
        pip.arg("--target").arg(folder).arg("--requirement").arg(folder.join("requirements.txt"));
        pip
    })
}

/// A folder of `target` with what `wanted` names, fetched unless it is there.
fn fetched(name: &str, wanted: &str, file: &str, fetch: impl FnOnce(&Path) -> Command) -> PathBuf {
    let above = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp").join("libraries");
    let folder = above.join(name);
    if fs::read_to_string(folder.join(file)).is_ok_and(|there| there == wanted) {
        return folder;
    }
    // Beside its place and then renamed: a fetch that breaks off leaves nothing that looks complete.
    let partial = above.join(format!("{name}.{}", std::process::id()));
    fs::create_dir_all(&partial).expect("target is writable");
    fs::write(partial.join(file), wanted).expect("target is writable");
    let mut command = fetch(&partial);
    let output =
        command.output().unwrap_or_else(|error| panic!("{command:?} cannot be run ({error}): {HOW_TO_GET_THEM}"));
    assert!(output.status.success(), "{command:?}: {HOW_TO_GET_THEM}\n{}", String::from_utf8_lossy(&output.stderr));
    fs::remove_dir_all(&folder).ok();
    if fs::rename(&partial, &folder).is_err() {
        assert!(folder.join(file).exists(), "target is writable");
        fs::remove_dir_all(&partial).ok();
    }
    folder
}
