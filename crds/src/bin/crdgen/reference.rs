//! A page for each kind with all of its fields, as the API server knows them.

use serde_json::Value;

/// The page of a CRD.
pub fn page(crd: &Value, command: &str) -> String {
    let (names, version) = (&crd["spec"]["names"], &crd["spec"]["versions"][0]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, scope) = (text(&crd["spec"]["group"]), text(&crd["spec"]["scope"]));
    let schema = &version["schema"]["openAPIV3Schema"];
    let mut page = format!(
        "# {kind}\n\n<!-- Generated from crds/src by: {command} -->\n\n\
         `{group}/{version}`, short name `{short}`, scope {scope}. \
         `kubectl explain {plural}` says the same.\n",
        kind = text(&names["kind"]),
        version = text(&version["name"]),
        short = text(&names["shortNames"][0]),
        plural = text(&names["plural"]),
    );
    for part in ["spec", "status"] {
        let schema = &schema["properties"][part];
        if schema.is_null() {
            continue;
        }
        page.push_str(&format!("\n## {part}\n\n"));
        if let Some(words) = description(schema) {
            page.push_str(&format!("{words}\n\n"));
        }
        page.push_str("| field | type | default | what it is |\n|---|---|---|---|\n");
        rows(&mut page, "", schema);
    }
    page
}

/// A row for each field below `path`, and those below it.
fn rows(page: &mut String, path: &str, schema: &Value) {
    let is_required = |name: &str| {
        let required = schema["required"].as_array().into_iter().flatten();
        required.into_iter().any(|field| field == name)
    };
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let default = match &field["default"] {
            Value::Null if is_required(name) => "required".to_owned(),
            Value::Null => String::new(),
            Value::String(text) => format!("`{text}`"),
            default => format!("`{default}`"),
        };
        let words = [description(field).unwrap_or_default(), rules(field)].join(" ");
        page.push_str(&format!("| `{path}` | {} | {default} | {} |\n", kind(field), words.trim()));
        // Conditions are those of all of Kubernetes.
        match name.as_str() {
            "conditions" => {}
            _ if field["type"] == "array" => rows(page, &format!("{path}[]"), &field["items"]),
            _ => rows(page, &path, field),
        }
    }
}

fn kind(field: &Value) -> String {
    if let Some(words) = field["enum"].as_array() {
        let words = words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`"));
        return words.collect::<Vec<_>>().join(", ");
    }
    match (field["type"].as_str(), field["format"].as_str()) {
        (Some("array"), _) => format!("list of {}", kind(&field["items"])),
        (Some("string"), Some("date-time")) => "time".to_owned(),
        (Some(name), _) => name.to_owned(),
        (None, _) => "any".to_owned(),
    }
}

/// What a field's rules say to who breaks them.
fn rules(field: &Value) -> String {
    let rules = field["x-kubernetes-validations"].as_array().into_iter().flatten();
    let said = rules.filter_map(|rule| rule["message"].as_str()).map(cell);
    said.map(|words| format!("*{words}.*")).collect::<Vec<_>>().join(" ")
}

fn description(schema: &Value) -> Option<String> {
    Some(cell(schema["description"].as_str()?))
}

/// A text in one line of a table. What is quoted as code stays as it is.
fn cell(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    let parts = line.split('`').enumerate();
    let parts = parts.map(|(number, part)| match number % 2 {
        0 => part.replace('*', "\\*"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("`")
}
