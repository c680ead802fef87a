//! The JSON of a sealed key, read by the rules of Go's `encoding/json`, with which
//! cosign reads it: names are told apart without regard to case, of a name that
//! comes twice the last value counts, and what has no name here does not.

use std::fmt;

use base64ct::{Base64, Encoding};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// The format of go-securesystemslib's `encrypted` package.
#[derive(Serialize, Default)]
pub(super) struct Envelope {
    pub(super) kdf: Kdf,
    pub(super) cipher: Cipher,
    pub(super) ciphertext: Bytes,
}

/// How the password becomes a key.
#[derive(Serialize, Default)]
pub(super) struct Kdf {
    pub(super) name: String,
    pub(super) params: Params,
    pub(super) salt: Bytes,
}

/// scrypt's costs.
#[derive(Serialize, Default, PartialEq, Clone, Copy)]
pub(super) struct Params {
    #[serde(rename = "N")]
    pub(super) n: u32,
    pub(super) r: u32,
    pub(super) p: u32,
}

/// How the key seals.
#[derive(Serialize, Default)]
pub(super) struct Cipher {
    pub(super) name: String,
    pub(super) nonce: Bytes,
}

/// Bytes, in JSON as base64.
#[derive(Default)]
pub(super) struct Bytes(pub(super) Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Base64::encode_string(&self.0))
    }
}

/// Why JSON is no envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Damage {
    /// It is no JSON, or has a value of another kind.
    Json,
    /// Bytes are no base64.
    Base64,
}

/// Reads JSON.
///
/// # Errors
/// If Go would find an error. What it does not mind and nobody writes is one, too:
/// bytes as an array of numbers, and numbers that no costs are.
pub(super) fn read(json: &[u8]) -> Result<Envelope, Damage> {
    let value: Json = serde_json::from_slice(json).map_err(|_| Damage::Json)?;
    let mut envelope = Envelope::default();
    envelope.take(value)?;
    Ok(envelope)
}

/// A value, as far as an envelope may have it.
enum Json {
    Null,
    Number(u32),
    Text(String),
    Object(Vec<(String, Json)>),
    Other,
}

/// What a value is read into, over what was read before.
trait Take {
    fn take(&mut self, value: Json) -> Result<(), Damage>;
}

/// Reads an object's values into what its names, in lower case, name.
fn take_fields<'a, T>(
    target: &'a mut T,
    value: Json,
    field: impl for<'b> Fn(&'b mut T, &str) -> Option<&'b mut dyn Take>,
) -> Result<(), Damage> {
    let fields = match value {
        Json::Null => return Ok(()),
        Json::Object(fields) => fields,
        Json::Number(_) | Json::Text(_) | Json::Other => return Err(Damage::Json),
    };
    for (name, value) in fields {
        if let Some(place) = field(target, &folded(&name)) {
            place.take(value)?;
        }
    }
    Ok(())
}

/// A name without regard to case. Two letters beside ASCII's are the same as one
/// of these.
fn folded(name: &str) -> String {
    let fold = |letter| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    name.chars().map(fold).collect()
}

impl Take for Envelope {
    fn take(&mut self, value: Json) -> Result<(), Damage> {
        take_fields(self, value, |to, name| match name {
            "kdf" => Some(&mut to.kdf),
            "cipher" => Some(&mut to.cipher),
            "ciphertext" => Some(&mut to.ciphertext),
            _ => None,
        })
    }
}

impl Take for Kdf {
    fn take(&mut self, value: Json) -> Result<(), Damage> {
        take_fields(self, value, |to, name| match name {
            "name" => Some(&mut to.name),
            "params" => Some(&mut to.params),
            "salt" => Some(&mut to.salt),
            _ => None,
        })
    }
}

impl Take for Params {
    fn take(&mut self, value: Json) -> Result<(), Damage> {
        take_fields(self, value, |to, name| match name {
            "n" => Some(&mut to.n),
            "r" => Some(&mut to.r),
            "p" => Some(&mut to.p),
            _ => None,
        })
    }
}

impl Take for Cipher {
    fn take(&mut self, value: Json) -> Result<(), Damage> {
        take_fields(self, value, |to, name| match name {
            "name" => Some(&mut to.name),
            "nonce" => Some(&mut to.nonce),
            _ => None,
        })
    }
}

impl Take for u32 {
    fn take(&mut self, value: Json) -> Result<(), Damage> {
        match value {
            Json::Null => {}
            Json::Number(number) => *self = number,
            Json::Text(_) | Json::Object(_) | Json::Other => return Err(Damage::Json),
        }
        Ok(())
    }
}

impl Take for String {
    fn take(&mut self, value: Json) -> Result<(), Damage> {
        match value {
            Json::Null => {}
            Json::Text(text) => *self = text,
            Json::Number(_) | Json::Object(_) | Json::Other => return Err(Damage::Json),
        }
        Ok(())
    }
}

impl Take for Bytes {
    fn take(&mut self, value: Json) -> Result<(), Damage> {
        self.0 = match value {
            // Of bytes alone a null leaves none.
            Json::Null => Vec::new(),
            Json::Text(text) => {
                let text = text.replace(['\r', '\n'], "");
                Base64::decode_vec(&text).map_err(|_| Damage::Base64)?
            }
            Json::Number(_) | Json::Object(_) | Json::Other => return Err(Damage::Json),
        };
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyJson)
    }
}

struct AnyJson;

impl<'de> Visitor<'de> for AnyJson {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(u32::try_from(number).map_or(Json::Other, Json::Number))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Json::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(field) = fields.next_entry()? {
            object.push(field);
        }
        Ok(Json::Object(object))
    }
}
