//! Every stable word a problem or a notice of this module can carry. A word is never reused for something else.

/// Declares the codes and the list of all of them, so that none can be left out of the list.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $word;)*

        /// All of them, in the order of this page.
        pub const ALL: &[&str] = &[$($name),*];
    };
}

codes! {
    /// A file without any document: nothing was written, or the write was cut short.
    FILE_EMPTY = "spec.file.empty";
    /// More text than a spec can need.
    FILE_SIZE = "spec.file.size";
    /// No file says anything about mirrors; switching off is `registryMirrors: []`.
    EMPTY = "spec.empty";
    /// Not YAML.
    YAML_SYNTAX = "spec.yaml.syntax";
    /// Nested too deeply.
    YAML_DEPTH = "spec.yaml.depth";
    /// Too many values, aliases counted as often as they are used.
    YAML_NODES = "spec.yaml.nodes";
    /// An alias that contains itself.
    YAML_ALIAS = "spec.yaml.alias";
    /// `<<` on something that is not a mapping.
    YAML_MERGE = "spec.yaml.merge";
    /// A key written twice.
    KEY_DUPLICATE = "spec.key.duplicate";
    /// A key that is not known here.
    KEY_UNKNOWN = "spec.key.unknown";
    /// A key that is a list or a mapping.
    KEY_KIND = "spec.key.kind";
    /// A list where a text belongs, and the like.
    VALUE_KIND = "spec.value.kind";
    /// No value where one is needed.
    VALUE_MISSING = "spec.value.missing";
    /// A YAML tag, which would change what the value is.
    VALUE_TAG = "spec.value.tag";
    /// Something other than `true` or `false`.
    VALUE_BOOLEAN = "spec.value.boolean";
    /// Notice: keys and documents that are not ours were left alone.
    FOREIGN = "spec.foreign";
    /// `registryMirrors:` without a value is neither on nor off.
    MIRRORS_MISSING = "spec.mirrors.missing";
    /// Notice: one place says `[]`, another has entries, the entries count.
    MIRRORS_NOT_OFF = "spec.mirrors.not_off";
    /// Several Clusters and none chosen.
    CLUSTER_AMBIGUOUS = "spec.cluster.ambiguous";
    /// The chosen Cluster is not there.
    CLUSTER_UNKNOWN = "spec.cluster.unknown";
    /// A Cluster of a version that is not known.
    CLUSTER_VERSION = "spec.cluster.version";
    /// The same Cluster twice.
    CLUSTER_TWICE = "spec.cluster.twice";
    /// Our key in the wrong place of a Cluster.
    CLUSTER_MISPLACED = "spec.cluster.misplaced";
    /// Notice: header and Cluster differ, the Cluster counts.
    CLUSTER_WINS = "spec.cluster.wins";
    /// `gcrKeyPath` twice, with different values.
    GCR_KEY_TWICE = "spec.gcr_key.twice";
    /// An entry without an endpoint.
    ENDPOINT_MISSING = "spec.endpoint.missing";
    /// No scheme, or one that is not http or https.
    ENDPOINT_SCHEME = "spec.endpoint.scheme";
    /// A login in an endpoint.
    ENDPOINT_USERINFO = "spec.endpoint.userinfo";
    /// A query or a fragment in an endpoint.
    ENDPOINT_QUERY = "spec.endpoint.query";
    /// The endpoint's host is not a host.
    ENDPOINT_HOST = "spec.endpoint.host";
    /// `/v2` without a namespace.
    ENDPOINT_V2 = "spec.endpoint.v2";
    /// A path that is not `/v2/NAMESPACE`.
    ENDPOINT_PATH = "spec.endpoint.path";
    /// A namespace that cannot be one.
    ENDPOINT_NAMESPACE = "spec.endpoint.namespace";
    /// Notice: the slash at the end was dropped.
    ENDPOINT_SLASH = "spec.endpoint.slash";
    /// The same endpoint twice for one host.
    ENDPOINT_TWICE = "spec.endpoint.twice";
    /// A TLS setting on an http endpoint.
    ENDPOINT_TLS = "spec.endpoint.tls";
    /// A host that is not a host name.
    HOST_NAME = "spec.hosts.name";
    /// A URL or a path where a host belongs.
    HOST_URL = "spec.hosts.url";
    /// A pattern where a host belongs.
    HOST_PATTERN = "spec.hosts.pattern";
    /// Docker Hub under another name than docker.io.
    HOST_DOCKER = "spec.hosts.docker";
    /// A word that no image name begins with as a registry.
    HOST_BARE = "spec.hosts.bare";
    /// A host twice in one entry.
    HOST_TWICE = "spec.hosts.twice";
    /// The endpoint's own domain among its hosts.
    HOST_OVERLAP = "spec.hosts.overlap";
    /// Notice: the entry mirrors nothing.
    HOST_NONE = "spec.hosts.none";
    /// A path that is not absolute.
    PATH_RELATIVE = "spec.path.relative";
    /// A path from a home directory.
    PATH_HOME = "spec.path.home";
    /// A path that climbs.
    PATH_CLIMBS = "spec.path.climbs";
    /// A control character in a path, or a path that is too long.
    PATH_CHARACTERS = "spec.path.characters";
    /// A path that names a directory.
    PATH_DIRECTORY = "spec.path.directory";
    /// A Secret reference without name or namespace.
    SECRET_MISSING = "spec.secret.missing";
    /// A name Kubernetes would not take.
    SECRET_NAME = "spec.secret.name";
    /// A path in a Cluster, or a Secret in a header.
    INPUT_FORM = "spec.input.form";
    /// A path and a Secret for the same thing.
    INPUT_BOTH = "spec.input.both";
    /// A client certificate without its key, or the other way round.
    CLIENT_HALF = "spec.client.half";
    /// Capabilities containerd would not take, or that make no mirror.
    CAPABILITIES = "spec.capabilities";
    /// A time that is not one, or is out of bounds.
    DIAL_TIMEOUT = "spec.dial_timeout";
    /// Neither `upstream` nor `none`.
    FALLBACK = "spec.fallback";
    /// An input too large to be what it should be.
    INPUT_SIZE = "input.size";
    /// No PEM block where one is needed.
    PEM_NONE = "input.pem.none";
    /// DER instead of PEM.
    PEM_DER = "input.pem.der";
    /// A PEM block that is cut short or damaged.
    PEM_DAMAGED = "input.pem.damaged";
    /// A PEM block of another kind than belongs there.
    PEM_KIND = "input.pem.kind";
    /// A private key where certificates belong.
    PEM_KEY = "input.pem.key";
    /// A PEM block that says certificate and is none.
    CERTIFICATE_DAMAGED = "input.certificate.damaged";
    /// Notice: one of several certificates has expired.
    CERTIFICATE_EXPIRED = "input.certificate.expired";
    /// Notice: a certificate is not valid yet.
    CERTIFICATE_EARLY = "input.certificate.early";
    /// No certificate of a bundle is valid any more.
    CA_EXPIRED = "input.ca.expired";
    /// A private key with a passphrase.
    KEY_ENCRYPTED = "input.key.encrypted";
    /// More than one private key.
    KEY_SEVERAL = "input.key.several";
    /// Not JSON.
    JSON_SYNTAX = "input.json.syntax";
    /// JSON that is not a docker config.json.
    DOCKER_SHAPE = "input.docker_config.shape";
    /// A login that is kept by a helper program.
    DOCKER_HELPER = "input.docker_config.helper";
    /// A login that is a token.
    DOCKER_TOKEN = "input.docker_config.token";
    /// An `auth` that is not base64 of `USER:PASSWORD`.
    DOCKER_AUTH = "input.docker_config.auth";
    /// A user name that cannot be sent.
    LOGIN_USER = "input.login.user";
    /// A password that cannot be sent.
    LOGIN_PASSWORD = "input.login.password";
    /// JSON that is not a service-account key.
    SERVICE_ACCOUNT = "input.service_account";
}

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn no_word_means_two_things() {
        let mut words = ALL.to_vec();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), ALL.len());
    }
}
