//! The CEL of an ImageValidatingPolicy and of its pin. Kyverno compiles all of it
//! for each Pod, so what differs from ring to ring is data (`data.rs`), and what is
//! done with it stands once.

use super::data::ALL_IMAGES;
use crate::policy::object::REFERENCE;

/// What the gate is asked with. Kyverno 1.19 reads once which kinds there are, so
/// one that it has always known is asked about.
pub(super) const QUESTIONS: &str = "configmaps";

/// Whether a request is a question to a gate.
pub(super) fn asks() -> String {
    format!("request.resource.resource == '{QUESTIONS}'")
}

/// Whether a request is no question to a gate, or one of this name.
pub(super) fn is_question(name: &str) -> String {
    format!("!({}) || request.name == '{name}'", asks())
}

/// Whether a request is no question to a gate, or one that is asked here.
pub(super) fn is_asked_in(namespace: &str) -> String {
    format!("!({}) || request.namespace == '{namespace}'", asks())
}

/// All images of a Pod.
fn images(pod: &str) -> String {
    format!(
        "(({pod}.spec.containers + {pod}.spec.?initContainers.orValue([]) + \
         {pod}.spec.?ephemeralContainers.orValue([])).map(c, c.image) + \
         {pod}.spec.?volumes.orValue([]).filter(v, has(v.image) && \
         has(v.image.reference)).map(v, v.image.reference))"
    )
}

/// Whether all images are looked at: those of a new Pod, and of one that may be
/// scheduled from now on.
fn starts() -> String {
    let gates = |pod: &str| format!("{pod}.spec.?schedulingGates.orValue([]).size()");
    format!("(request.operation == 'CREATE' || {} < {})", gates("object"), gates("oldObject"))
}

/// Whether what runs changes. Lists as a whole are compared, because the API server
/// bounds what a condition may cost.
pub(super) fn changes() -> String {
    format!("({} || {} != {})", starts(), images("object"), images("oldObject"))
}

/// The places of a Pod that have an image, each with its image behind a `=`.
fn places(pod: &str) -> String {
    format!(
        "(({pod}.spec.containers + {pod}.spec.?initContainers.orValue([]) + \
         {pod}.spec.?ephemeralContainers.orValue([])).map(c, c.name + '=' + c.image) + \
         {pod}.spec.?volumes.orValue([]).filter(v, has(v.image) && \
         has(v.image.reference)).map(v, v.name + '/=' + v.image.reference))"
    )
}

/// The images that a request has started: of an update those that were not there, in
/// the same place. What runs in one container already, and is not accepted any more,
/// starts in no other.
fn started() -> String {
    format!(
        "({} ? {} : cel.bind(old, {}, {}.filter(i, !(i in old)).map(i, \
         i.substring(i.indexOf('=') + 1))))",
        starts(),
        images("object"),
        places("oldObject"),
        places("object"),
    )
}

/// The images to be verified, given the exclusions as `excluded`. An image that is
/// no reference is never excluded.
pub(super) fn verified(enrolment_label: &str) -> String {
    format!(
        "{} ? [] : {}.distinct().filter(i, !({}))",
        asks(),
        started(),
        is_excluded(enrolment_label)
    )
}

/// The tags to be pinned, given the exclusions as `excluded`.
pub(super) fn pinned(enrolment_label: &str) -> String {
    format!(
        "{}.filter(i, !i.contains('@')).distinct().filter(i, !({}))",
        started(),
        is_excluded(enrolment_label)
    )
}

/// Whether a request starts an image by its tag.
pub(super) fn has_tags() -> String {
    format!("{}.exists(i, !i.contains('@')) && {}", images("object"), changes())
}

/// Whether the lists, or the ring that the namespace belongs to, exclude image `i`.
/// A pattern is a whole name, with a tag or a digest or without; one that ends in a
/// slash is a tree, one that ends in an asterisk the beginning of a tag; an asterisk alone
/// is every image.
fn is_excluded(enrolment_label: &str) -> String {
    let ring = ring(enrolment_label);
    let tagged = "n + ':' + r.tag()";
    format!(
        "i.matches('{REFERENCE}') && cel.bind(r, parseImageReference(i), cel.bind(n, \
         r.registry() + '/' + r.repository(), ['', {ring}].exists(o, o in excluded && \
         excluded[o].exists(p, p == '{ALL_IMAGES}' || p == n || p.endsWith('/') && n.startsWith(p) || \
         (r.containsDigest() ? p == n + '@' + r.digest() : p == {tagged} || p.endsWith('*') && \
         ({tagged}).startsWith(p.substring(0, p.size() - 1)))))))"
    )
}

/// The value of the namespace's enrolment label.
pub(super) fn ring(enrolment_label: &str) -> String {
    format!("namespaceObject.metadata.labels['{enrolment_label}']")
}

/// Whether each image has a signature of a key that is accepted, newest key first.
///
/// In a bundle Kyverno takes an attestation for a signature, and a ring's pipeline
/// attests what it does not approve of, too. So what is found in a bundle has to be
/// of cosign's type for signatures: the twin of a key fits bundles only.
pub(super) fn is_signed() -> String {
    "images.containers.all(i, variables.accepted.exists(k, \
     verifyImageSignatures(i, [attestors[k]]) > 0 && \
     (!(verifyImageSignatures(i, [attestors[k + 'b']]) > 0) || \
     verifyAttestationSignatures(i, attestations.signature, [attestors[k]]) > 0)))"
        .to_owned()
}

/// What is said of a Pod that is refused.
pub(super) fn refusal() -> String {
    "'ring ' + variables.ring + ': not each of these images has a signature of an accepted \
     key: ' + images.containers.join(', ')"
        .to_owned()
}

/// The patches that put the digest behind each tag in `variables.pin`.
pub(super) fn patches() -> String {
    let value = |image: &str| format!("{image} + '@' + image.GetMetadata({image}).digest");
    let lists = ["containers", "initContainers", "ephemeralContainers"].map(|list| {
        let image = format!("object.spec.{list}[x].image");
        patch(list, &format!("{image} in variables.pin"), "image", &value(&image))
    });
    let volume = "object.spec.volumes[x].image";
    let reference = format!("{volume}.reference");
    let of_ours = format!("has({volume}) && has({reference}) && {reference} in variables.pin");
    let volumes = patch("volumes", &of_ours, "image/reference", &value(&reference));
    format!("{} + {volumes}", lists.join(" + "))
}

fn patch(list: &str, applies: &str, path: &str, value: &str) -> String {
    format!(
        "(object.spec.?{list}.orValue([]).size() == 0 ? [] : \
         lists.range(object.spec.{list}.size()).filter(x, {applies}).map(x, \
         JSONPatch{{op: 'replace', path: '/spec/{list}/' + string(x) + '/{path}', \
         value: {value}}}))"
    )
}

/// A list of texts without any: Kyverno asks for one of texts, and `[]` is one of
/// anything.
pub(super) const NO_IMAGES: &str = "[''].filter(i, i != '')";
