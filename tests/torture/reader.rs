//! A reader that opens files in containerd's order while they are changed under it.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use toml_edit::DocumentMut;

use super::is_whole;
use crate::{
    cases_plan::{mirrorlet, root_of},
    harness::ca::Ca,
};

const ENDPOINTS: [&str; 2] = ["https://192.0.2.10:5000", "https://192.0.2.11:5000"];
const HOSTS: [&str; 2] = ["up.lab", "gcr.io"];

/// What containerd would make of one host directory now: the mirror it asks first, and the bytes of that mirror's CA.
fn resolved(hosts_dir: &Path, host: &str) -> Result<(String, Vec<u8>), String> {
    let directory = hosts_dir.join(host);
    let text = fs::read_to_string(directory.join("hosts.toml")).map_err(|error| format!("{host}: hosts.toml: {error}"))?;
    if text.is_empty() {
        return Err(format!("{host}: hosts.toml is empty"));
    }
    let document: DocumentMut = text.parse().map_err(|error| format!("{host}: hosts.toml: {error}"))?;
    let (endpoint, settings) = document
        .get("host")
        .and_then(|hosts| hosts.as_table()?.iter().next())
        .ok_or_else(|| format!("{host}: no mirror in hosts.toml\n{text}"))?;
    let ca = settings.get("ca").and_then(|ca| ca.as_str()).ok_or_else(|| format!("{host}: no CA in hosts.toml"))?;
    let ca = fs::read(directory.join(ca)).map_err(|error| format!("{host}: {ca}: {error}"))?;
    Ok((endpoint.to_owned(), ca))
}

#[test]
fn a_reader_never_sees_half_a_change() {
    let (applies, reads) = if is_whole() { (500, 100_000) } else { (50, 10_000) };
    let root = root_of("stock-v2");
    let cas = [Ca::create().certificate().to_owned(), Ca::create().certificate().to_owned()];
    for (number, ca) in cas.iter().enumerate() {
        fs::create_dir_all(root.path().join("root")).unwrap();
        fs::write(root.path().join(format!("root/ca{number}.crt")), ca).unwrap();
    }
    let apply = |number: usize| {
        let endpoint = ENDPOINTS[number % 2];
        let text = format!("registryMirrors:\n  - endpoint: {endpoint}\n    caCertPath: /root/ca{}.crt\n    hosts: [up.lab]\n", number % 2);
        fs::write(root.path().join("etc/mirrorlet/mirrors.yaml"), text).unwrap();
        mirrorlet(root.path(), "once");
    };
    apply(0);
    let hosts_dir = root.path().join("etc/containerd/certs.d");
    let is_over = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = [0_usize; 2];
            while !is_over.load(Ordering::Relaxed) || seen.iter().sum::<usize>() < reads {
                for host in HOSTS {
                    let (endpoint, ca) = resolved(&hosts_dir, host).unwrap();
                    let generation = ENDPOINTS.iter().position(|known| *known == endpoint).unwrap();
                    assert_eq!(ca, cas[generation].as_bytes(), "{host}: hosts.toml and its CA are of two generations");
                    seen[generation] += 1;
                }
            }
            seen
        });
        (1..=applies).for_each(apply);
        is_over.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    println!("{} reads during {applies} applies, {seen:?} by generation", seen.iter().sum::<usize>());
    assert!(seen.iter().all(|seen| *seen > reads / 20), "the reader saw one generation only: {seen:?}");
}
