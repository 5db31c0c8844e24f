//! One entry of `registryMirrors`, in either form.

use super::{
    super::{
        InputName, Located, Mirror, codes,
        document::{Mark, Node},
        names::{Capability, Endpoint, Scheme},
        problem::Problem,
    },
    fields::{self, Fields},
    hosts::{self, Hosts},
    input_names,
    report::{Field, Report},
    settings,
};

/// Where an entry is written decides how it names its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// At the top of a document: inputs are files.
    Header,
    /// In a Cluster: inputs are Secrets.
    Cluster,
}

const OWN: [&str; 8] = ["endpoint", "hosts", "capabilities", "skipVerify", "clientCertPath", "clientKeyPath", "dialTimeout", "fallback"];
const PATHS: [&str; 2] = [input_names::CA.path_key, input_names::LOGIN.path_key];
const SECRETS: [&str; 2] = [input_names::CA.secret_key, input_names::LOGIN.secret_key];

/// An entry that is right by itself; how it gets on with its neighbours is seen later.
pub(super) struct Draft {
    pub(super) mirror: Mirror,
    pub(super) file: usize,
    pub(super) at: Mark,
    /// The entry's field path.
    pub(super) field: String,
    /// Where each of the mirror's hosts was written.
    pub(super) host_places: Vec<(Mark, usize)>,
}

/// Reads an entry; `None` when something in it is wrong, which has been reported then.
pub(super) fn read(node: &Node, field: &Field<'_>, form: Form, file: usize, report: &mut Report<'_>) -> Option<Draft> {
    let problems_before = report.count();
    let fields = Fields::open(node, field, report)?;
    refuse_unknown(&fields, form, report);
    let endpoint = read_endpoint(&fields, report);
    let hosts = hosts::read(&fields, endpoint.as_ref(), report);
    let ca = input_names::read(&fields, &input_names::CA, form, report);
    let login = input_names::read(&fields, &input_names::LOGIN, form, report);
    let client = read_client(&fields, report);
    let skip_verify = fields.get("skipVerify").and_then(|node| fields::boolean(node, &field.key("skipVerify"), report)).unwrap_or(false);
    let capabilities = settings::capabilities(&fields, report).unwrap_or_else(|| Capability::ALL.to_vec());
    let dial_timeout = settings::dial_timeout(&fields, report);
    let fallback = settings::fallback(&fields, report);
    if endpoint.as_ref().is_some_and(|endpoint| endpoint.scheme == Scheme::Http) {
        refuse_tls(&fields, skip_verify, report);
    }
    let (endpoint, Hosts { hosts, places }) = (endpoint?, hosts?);
    if report.count() != problems_before {
        return None;
    }
    let mirror =
        Mirror { endpoint, hosts, ca, login, client, capabilities, skip_verify, dial_timeout, fallback, at: report.location(node.at) };
    Some(Draft { mirror, file, at: node.at, field: field.to_string(), host_places: places })
}

/// Keys of the other form are known, so that they can be answered with the right one.
fn refuse_unknown(fields: &Fields<'_>, form: Form, report: &mut Report<'_>) {
    let known: Vec<&str> = OWN.into_iter().chain(PATHS).chain(SECRETS).collect();
    let of_form = if form == Form::Header { PATHS } else { SECRETS };
    let suggested: Vec<&str> = OWN.into_iter().chain(of_form).collect();
    fields.refuse_unknown(&known, &suggested, report);
}

fn read_endpoint(fields: &Fields<'_>, report: &mut Report<'_>) -> Option<Endpoint> {
    let field = fields.field.key("endpoint");
    let Some(node) = fields.get("endpoint") else {
        report.problem(
            fields.at,
            &field,
            Problem::new(codes::ENDPOINT_MISSING, "an entry needs an endpoint", "write endpoint: https://HOST:PORT"),
        );
        return None;
    };
    match Endpoint::parse(fields::text(node, &field, report)?) {
        Ok((endpoint, had_slash)) => {
            if had_slash {
                let notice = Problem::new(codes::ENDPOINT_SLASH, "the slash at the end is dropped", format!("write {endpoint}"));
                report.notice(node.at, &field, notice);
            }
            Some(endpoint)
        }
        Err(problem) => {
            report.problem(node.at, &field, problem);
            None
        }
    }
}

/// Certificate and key of a client, both or none.
fn read_client(fields: &Fields<'_>, report: &mut Report<'_>) -> Option<(Located<InputName>, Located<InputName>)> {
    let given = |key: &str| fields.entry(key).filter(|entry| !fields::is_blank(&entry.value));
    let (certificate, key) = (given("clientCertPath"), given("clientKeyPath"));
    for (entry, present, absent) in [(certificate, "clientCertPath", "clientKeyPath"), (key, "clientKeyPath", "clientCertPath")] {
        if let Some(entry) = entry.filter(|_| given(absent).is_none()) {
            let problem = Problem::new(
                codes::CLIENT_HALF,
                format!("{present} needs {absent}"),
                format!("write {absent} too, or leave {present} out"),
            );
            report.problem(entry.at, &fields.field.key(present), problem);
        }
    }
    let certificate = certificate.and_then(|entry| input_names::path(&entry.value, &fields.field.key("clientCertPath"), report));
    let key = key.and_then(|entry| input_names::path(&entry.value, &fields.field.key("clientKeyPath"), report));
    certificate.zip(key)
}

/// TLS keys beside an http URL make containerd try https first, and with some mirrors skip the mirror altogether.
fn refuse_tls(fields: &Fields<'_>, skip_verify: bool, report: &mut Report<'_>) {
    let given = |key: &&str| fields.get(key).is_some_and(|node| !fields::is_blank(node)) && (*key != "skipVerify" || skip_verify);
    let tls = [input_names::CA.path_key, input_names::CA.secret_key, "skipVerify", "clientCertPath", "clientKeyPath"];
    for key in tls.iter().filter(|key| given(key)) {
        let Some(entry) = fields.entry(key) else { continue };
        let message = format!("{key} has no meaning for an http endpoint, and makes containerd try https first");
        report.problem(
            entry.at,
            &fields.field.key(key),
            Problem::new(codes::ENDPOINT_TLS, message, "write an https endpoint, or leave this key out"),
        );
    }
}
