//! Objects in files: folders with all in them, several documents in a file, lists of objects.

use serde::Deserialize as _;
use serde_json::Value;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The largest file that is read, in bytes; the API server takes objects of up to 3 MiB.
const LARGEST: u64 = 32 * 1024 * 1024;
/// How deep folders may lie in each other.
const DEEPEST: usize = 64;
/// How files end that are read where a folder is named.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// How deep lists of objects may lie in each other.
const DEEPEST_LIST: usize = 16;

/// An object in a file, or what stands where one should be.
#[derive(Debug, PartialEq)]
pub(crate) struct Document {
    /// Its file.
    pub(crate) file: String,
    /// Which of the file's documents it is in, from 0.
    pub(crate) at: usize,
    /// The object, or why it is none.
    pub(crate) object: Result<Value, String>,
}

/// The text of a file that is no manifest; `-` is standard input.
pub(crate) fn text(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        io::stdin().lock().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(path)
    };
    read.map_err(|error| failed(path, &error))
}

/// The documents in files, in the order of the paths, and by name within folders.
pub(crate) fn documents(paths: &[PathBuf]) -> Result<Vec<Document>, Failure> {
    let mut found = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let text = read(&mut io::stdin().lock(), "standard input")?;
            split(&text, "standard input", &mut found);
            continue;
        }
        let mut files = Vec::new();
        let kind = fs::metadata(path).map_err(|error| failed(path, &error))?;
        if kind.is_dir() {
            folder(path, 0, &mut files)?;
        } else {
            files.push(path.clone());
        }
        for file in files {
            let name = file.display().to_string();
            let mut opened = fs::File::open(&file).map_err(|error| failed(&file, &error))?;
            split(&read(&mut opened, &name)?, &name, &mut found);
        }
    }
    Ok(found)
}

fn folder(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    if depth > DEEPEST {
        let what = format!("{}: folders lie more than {DEEPEST} deep in each other", path.display());
        return Err(Failure::other(what));
    }
    let entries: io::Result<Vec<_>> = fs::read_dir(path)
        .and_then(Iterator::collect)
        .map_err(|error| io::Error::new(error.kind(), error));
    let mut entries = entries.map_err(|error| failed(path, &error))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // A link to a folder is not followed: it may lead back.
        let kind = entry.file_type().map_err(|error| failed(&path, &error))?;
        let ending = path.extension().and_then(|ending| ending.to_str());
        if kind.is_dir() {
            folder(&path, depth + 1, files)?;
        } else if ending.is_some_and(|ending| ENDINGS.contains(&ending)) && path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

fn read(from: &mut impl Read, name: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let length = from
        .take(LARGEST + 1)
        .read_to_string(&mut text)
        .map_err(|error| Failure::other(format!("{name}: {error}")))?;
    if u64::try_from(length).unwrap_or(u64::MAX) > LARGEST {
        return Err(Failure::other(format!(
            "{name}: files of more than {LARGEST} bytes are not read"
        )));
    }
    Ok(text)
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    let what = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::NotFound => Failure::missing(what),
        _ => Failure::other(what),
    }
}

/// The objects of a text in YAML or JSON. What follows a document that cannot be read is not looked at: where it begins is not
/// known.
pub(crate) fn split(text: &str, file: &str, found: &mut Vec<Document>) {
    for (at, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let read = serde_yaml::Value::deserialize(document).and_then(|mut value| {
            value.apply_merge()?;
            Ok(value)
        });
        let object = read
            .map_err(|error| error.to_string())
            .and_then(|value| serde_json::to_value(value).map_err(|error| error.to_string()));
        let mut add = |object| {
            found.push(Document {
                file: file.to_owned(),
                at,
                object,
            });
        };
        match object {
            Ok(Value::Null) => {}
            Ok(object @ Value::Object(_)) => objects(object, DEEPEST_LIST, &mut |object| add(Ok(object))),
            Ok(_) => add(Err("not an object".to_owned())),
            Err(reason) => {
                add(Err(reason));
                break;
            }
        }
    }
}

/// An object, or those that it lists.
fn objects(mut object: Value, depth: usize, add: &mut impl FnMut(Value)) {
    let is_list = object["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match object.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) if is_list && depth > 0 => {
            for item in items {
                objects(item, depth - 1, add);
            }
        }
        Some(other) => {
            object["items"] = other;
            add(object);
        }
        None => add(object),
    }
}
