//! What Kyverno and Docker make of an image, written apart from the parser:
//! the tests and the fuzz target judge the spellings by it.

/// What Kyverno 1.19 compares for a pod's image.
pub fn kyvernos_string(image: &str) -> String {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let (name, tag) = cut_tag(name);
    let first = name.split('/').next().unwrap_or_default();
    let has_host = name.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    let name = if has_host { name.to_owned() } else { format!("docker.io/{name}") };
    match digest {
        Some(digest) => format!("{name}@{digest}"),
        None => format!("{name}:{}", tag.unwrap_or("latest")),
    }
}

/// Whether Kyverno can read an image at all (github.com/distribution/reference
/// behind the default registry). It compares one that it cannot with nothing.
pub fn is_reference(image: &str) -> bool {
    let text = kyvernos_string(image);
    let Some((host, rest)) = text.split_once('/') else { return false };
    let (path, end) = match rest.find([':', '@']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let tag = |tag: &str| {
        (1..=128).contains(&tag.len())
            && !tag.starts_with(['.', '-'])
            && tag.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    };
    let end = match end.split_at_checked(1) {
        Some((":", text)) => tag(text),
        Some((_, text)) => text.split_once(':').is_some_and(|(algorithm, hex)| {
            algorithm == "sha256" && hex.len() == 64 && hex.chars().all(|c| c.is_ascii_hexdigit())
        }),
        None => false,
    };
    let port = |port: &str| !port.is_empty() && port.chars().all(|c| c.is_ascii_digit());
    let label = |label: &str| {
        let inner = label.trim_matches(|c: char| c.is_ascii_alphanumeric());
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && inner.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let host = match host.strip_prefix('[') {
        Some(six) => six.split_once(']').is_some_and(|(address, end)| {
            address.chars().all(|c| c.is_ascii_hexdigit() || c == ':')
                && (end.is_empty() || end.strip_prefix(':').is_some_and(port))
        }),
        None => {
            let (name, number) = host.split_once(':').unwrap_or((host, "0"));
            name.split('.').all(label) && port(number)
        }
    };
    // A path's words are lower case, and what joins them is short.
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let segment = |segment: &str| {
        let joints: Vec<&str> = segment.split(word).filter(|joint| !joint.is_empty()).collect();
        segment.starts_with(word)
            && segment.ends_with(word)
            && joints.iter().all(|j| [".", "_", "__"].contains(j) || j.trim_matches('-').is_empty())
    };
    host && end && path.split('/').all(segment) && text.len() <= 255 + 1 + 128
}

/// go-wildcard: anchored at both ends, `*` is any text and `?` any character,
/// slashes and colons included.
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    // matched[i]: the pattern so far matches the first i characters.
    let mut matched = vec![false; text.len() + 1];
    matched[0] = true;
    for wanted in pattern {
        let mut next = vec![false; text.len() + 1];
        for i in 0..=text.len() {
            next[i] = match wanted {
                '*' => matched[..=i].contains(&true),
                '?' => i > 0 && matched[i - 1],
                letter => i > 0 && matched[i - 1] && text[i - 1] == letter,
            };
        }
        matched = next;
    }
    matched[text.len()]
}

/// The canonical repository of an image, by Docker's rules: Docker Hub is
/// `docker.io`, and its official images are in `library`.
pub fn repository(image: &str) -> String {
    let name = kyvernos_string(image);
    let name = cut_tag(name.split('@').next().unwrap_or_default()).0;
    let name = match name.strip_prefix("index.docker.io/") {
        Some(path) => format!("docker.io/{path}"),
        None => name.to_owned(),
    };
    match name.strip_prefix("docker.io/") {
        Some(short) if !short.contains('/') => format!("docker.io/library/{short}"),
        _ => name,
    }
}

/// Whether a pattern as people write it means an image: the same repository,
/// or one below a tree, and the tag or digest where it names one.
pub fn means(pattern: &str, image: &str) -> bool {
    if let Some(tree) = pattern.strip_suffix("/*") {
        // A tree of one word is a registry if it looks like one.
        // Two words below it, because one below Docker Hub is an official image.
        let probe = repository(&format!("{tree}/x/x"));
        let above = probe.strip_suffix("x/x").unwrap_or_default();
        return repository(image).starts_with(above);
    }
    if repository(pattern.trim_end_matches('*').trim_end_matches(':')) != repository(image) {
        return false;
    }
    let digest = |text: &str| text.split_once('@').map(|(_, digest)| digest.to_owned());
    if let Some(wanted) = digest(pattern) {
        return digest(image) == Some(wanted);
    }
    match cut_tag(pattern).1 {
        None | Some("*") => true,
        // Kyverno drops the tag where there is a digest.
        Some(_) if digest(image).is_some() => false,
        Some(wanted) => {
            let tag = cut_tag(image).1.unwrap_or("latest");
            wanted.strip_suffix('*').map_or(tag == wanted, |prefix| tag.starts_with(prefix))
        }
    }
}

/// Whether an ImageValidatingPolicy excludes an image by a pattern in its resolved
/// form: what its CEL compares, by what github.com/google/go-containerregistry reads in
/// the image. Nothing where that reads none.
pub fn excludes(pattern: &str, image: &str) -> bool {
    let (reference, digest) = match image.split_once('@') {
        Some((reference, digest)) => (reference, Some(digest)),
        None => (image, None),
    };
    let (name, tag) = cut_tag(reference);
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        _ => ("", name),
    };
    let registry = if ["", "docker.io"].contains(&registry) { "index.docker.io" } else { registry };
    if !(2..=255).contains(&repository.len()) {
        return false;
    }
    let official = registry == "index.docker.io" && !repository.contains('/');
    let name = format!("{registry}/{}{repository}", if official { "library/" } else { "" });
    if pattern == name || (pattern.ends_with('/') && name.starts_with(pattern)) {
        return true;
    }
    match digest {
        Some(digest) => pattern == format!("{name}@{digest}"),
        None => {
            let tagged = format!("{name}:{}", tag.unwrap_or("latest"));
            let prefix = pattern.strip_suffix('*');
            pattern == tagged || prefix.is_some_and(|prefix| tagged.starts_with(prefix))
        }
    }
}

/// Splits `name:tag`; a colon before the last slash belongs to a port.
fn cut_tag(name: &str) -> (&str, Option<&str>) {
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[last..].find(':') {
        Some(colon) => (&name[..last + colon], Some(&name[last + colon + 1..])),
        None => (name, None),
    }
}
