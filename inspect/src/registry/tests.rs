use super::*;

#[test]
fn registries_on_this_machine_are_asked_without_tls() {
    for here in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3", "a.localhost:1"] {
        assert!(is_this_machine(here), "{here}");
    }
    for there in
        ["quay.io", "localhost.example", "127.0.0.1.example:80", "10.0.0.1:5000", "docker.io"]
    {
        assert!(!is_this_machine(there), "{there}");
    }
}

#[test]
fn a_failure_that_passes_is_told_from_one_that_does_not() {
    let passing = [408, 429, 500, 502, 503].map(|code| StatusCode::from_u16(code).unwrap());
    assert!(passing.into_iter().all(passes));
    let staying = [400, 401, 404, 406].map(|code| StatusCode::from_u16(code).unwrap());
    assert!(!staying.into_iter().any(passes));
}
