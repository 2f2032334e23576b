//! Python's dictionaries to serde data and back, by way of JSON: the same text that travels over HTTP.

use cuckoo_core::Error;
use pyo3::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::to_python;

/// Reads a value from a Python object that `json.dumps` takes.
pub(crate) fn from_object<T: DeserializeOwned>(
    what: &str,
    object: &Bound<'_, PyAny>,
) -> PyResult<T> {
    let text: String = object
        .py()
        .import("json")?
        .call_method1("dumps", (object,))?
        .extract()?;
    let mut json = serde_json::Deserializer::from_str(&text);
    // Names the field: nobody wrote that text, so its lines and columns say nothing.
    serde_path_to_error::deserialize(&mut json)
        .map_err(|source| to_python(Error::invalid(format!("{what}: {source}"))))
}

/// The same for what may be left out.
pub(crate) fn read_or_default<T: DeserializeOwned + Default>(
    what: &str,
    object: Option<&Bound<'_, PyAny>>,
) -> PyResult<T> {
    object.map_or_else(|| Ok(T::default()), |object| from_object(what, object))
}

/// Gives a value as Python's own dictionaries, lists, strings and numbers.
pub(crate) fn to_object<'py, T: Serialize>(
    py: Python<'py>,
    value: &T,
) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_string(value).map_err(|source| {
        to_python(Error::internal("a value did not serialise").with_source(source))
    })?;
    py.import("json")?.call_method1("loads", (text,))
}
