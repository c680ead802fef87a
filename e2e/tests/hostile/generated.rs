//! Objects put together by chance from hostile parts.

use std::hash::{BuildHasher, Hasher, RandomState};

use serde_json::{Value, json};

use crate::{
    batch::{Row, Wants},
    texts::{MARK, list, patterns, ring, spec, texts},
};

/// How many of each kind.
const COUNT: usize = 50;

/// The seed: given, or another each time.
pub fn seed() -> u64 {
    let given = std::env::var("HOSTILE_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| RandomState::new().build_hasher().finish() >> 32)
}

/// Numbers by Marsaglia's xorshift.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or_default() % limit
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// Rings and lists; what becomes of each is not known beforehand, only that it
/// is one of the two things that may.
pub fn rows(seed: u64) -> Vec<Row> {
    let mut chance = Chance(seed.wrapping_mul(2).wrapping_add(1));
    let mut rows = Vec::new();
    for n in 0..COUNT {
        let mut more = json!({});
        if chance.below(2) == 0 {
            let keep = [json!(1), json!(10), json!(3), json!(0), json!("1"), json!(null)];
            more["keepVersions"] = chance.one(&keep).clone();
        }
        if chance.below(3) > 0 {
            more["policy"] = json!({
                "action": chance.one(&["Enforce", "Audit", "Enforce", "audit"]),
                "exclude": entries(&mut chance),
            });
        }
        let mut object = ring(&format!("chance-{n}"), &spec(&more));
        let token = chance.one(&texts()).clone();
        object["metadata"]["annotations"] = json!({"signing.odj.cloud/rotate": token});
        rows.push(Row::new("ring: generated", object, Wants::Either));
        let object = list(&format!("chance-{n}"), &json!(entries(&mut chance)));
        rows.push(Row::new("list: generated", object, Wants::Either));
    }
    rows
}

fn entries(chance: &mut Chance) -> Vec<Value> {
    let count = 1 + chance.below(3);
    (0..count).map(|_| entry(chance)).collect()
}

fn entry(chance: &mut Chance) -> Value {
    let mut entry = json!({"image": image(chance), "reason": chance.one(&texts())});
    if chance.below(3) == 0 {
        entry["owner"] = json!(format!("{MARK}{}", chance.one(&texts())));
    }
    if chance.below(3) == 0 {
        let dates = ["2020-01-01", "9999-12-31", "0000-02-29", "2027-02-30", "0001-01-01", "soon"];
        entry["expires"] = json!(chance.one(&dates));
    }
    entry
}

fn image(chance: &mut Chance) -> String {
    if chance.below(6) == 0 {
        let patterns = patterns();
        return chance.one(&patterns[..60]).clone();
    }
    let hosts = ["quay.io/", "localhost:5000/", "", "docker.io/", "index.docker.io/", "a.b:65535/"];
    let parts = ["x", "hostile", "a-b", "a__b", "library", "a.b", "x", "0"];
    let ends = ["", "/*", ":*", ":1", ":1.*", ":v_1-*", "/*", ":*"];
    let path: Vec<&str> = (0..=chance.below(3)).map(|_| *chance.one(&parts)).collect();
    format!("{}{}{}", chance.one(&hosts), path.join("/"), chance.one(&ends))
}
