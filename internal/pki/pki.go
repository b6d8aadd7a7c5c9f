// Package pki knows which certificates a cluster needs, which of them are due,
// and how to issue them: ECDSA P-256, one authority for the client port and one
// for the peer port. It is pure but for randomness: the time is a parameter, it
// reads and writes nothing, and it imports neither observe nor perform.
package pki

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Keys of the Secrets.
const (
	// KeyCA, KeyCert and KeyKey are the keys of the operator's and the
	// applications' Secret; an authority has KeyCert and KeyKey alone.
	KeyCA   = "ca.crt"
	KeyCert = corev1.TLSCertKey
	KeyKey  = corev1.TLSPrivateKeyKey

	// Further keys of an authority's Secret while it is rotated, and KeySince after
	// that: the authority that is to sign next, the former one, which is still trusted,
	// and since when every Secret holds what the phase needs (RFC 3339, or "not yet").
	KeyNextCert   = "next.crt"
	KeyNextKey    = "next.key"
	KeyFormerCert = "former.crt"
	KeySince      = "since"
	// KeyIssuer of an authority's Secret says that Certificates may exist for its port.
	KeyIssuer = "issuer"

	// Keys of a member's Secret, which are the file names in its pod.
	KeyClientCA   = "client-ca.crt"
	KeyServerCert = "server.crt"
	KeyServerKey  = "server.key"
	KeyPeerCA     = "peer-ca.crt"
	KeyPeerCert   = "peer.crt"
	KeyPeerKey    = "peer.key"
)

const (
	// AuthorityDuration is the life of a certificate authority: ten years of
	// 365 days. It outlives most clusters, and is rotated from two thirds on, which
	// leaves more than three years to do so.
	AuthorityDuration = 10 * 365 * 24 * time.Hour
	// DefaultLeafDuration is the life of a leaf where none is asked for.
	DefaultLeafDuration = 90 * 24 * time.Hour
	// Backdate is how far before its issue a certificate becomes valid, so
	// that a node whose clock is a little behind accepts it at once.
	Backdate = 5 * time.Minute
	// OperatorName is the common name of the operator's client certificate.
	// Once authentication is on, etcd takes membership calls from root alone.
	OperatorName = "root"
)

// ClientCASecret is the Secret of the authority that signs the leaves of the
// client port. It is never mounted.
func ClientCASecret(cluster string) string { return cluster + "-client-ca" }

// PeerCASecret is the Secret of the authority that signs the leaves of the
// peer port. It is never mounted.
func PeerCASecret(cluster string) string { return cluster + "-peer-ca" }

// OperatorSecret holds the operator's client certificate. It is never mounted.
func OperatorSecret(cluster string) string { return cluster + "-operator-tls" }

// ClientSecret holds the client certificate for applications.
func ClientSecret(cluster string) string { return cluster + "-client-tls" }

// MemberSecret holds what a member's pod mounts.
func MemberSecret(member string) string { return member + "-tls" }

// SecretNames are all the Secrets of a cluster with these members, in the order
// in which they are created: authorities first.
func SecretNames(cluster string, members []string) []string {
	names := []string{ClientCASecret(cluster), PeerCASecret(cluster), OperatorSecret(cluster), ClientSecret(cluster)}
	for _, m := range members {
		names = append(names, MemberSecret(m))
	}
	return names
}

// AuthorityPolicy says whether a missing authority may be created.
type AuthorityPolicy string

const (
	// AuthorityExpected is the zero value: the authorities exist, and a missing
	// one is a problem. A new one would cut the members off from each other.
	AuthorityExpected AuthorityPolicy = ""
	// AuthorityMayBeCreated holds while the cluster is being founded. An
	// authority of which a leaf exists is not created even then.
	AuthorityMayBeCreated AuthorityPolicy = "MayBeCreated"
)

// Inputs are what Plan decides from.
type Inputs struct {
	// Cluster and Namespace are the EtcdCluster's name and namespace.
	Cluster, Namespace string
	// Members that need a leaf: every member with a pod or about to get one.
	// The Secret of a member that is not listed is listed for removal.
	Members []string
	// LeafDuration is the life of leaves issued from now on; zero means
	// DefaultLeafDuration. A change takes effect at each leaf's next renewal.
	LeafDuration time.Duration
	// Authorities says whether a missing authority may be created. Only one that is
	// expected is rotated.
	Authorities AuthorityPolicy
	// RotateBefore has authorities that were issued before it replaced, once it has
	// come; zero for none.
	RotateBefore time.Time
	// Soak is how long applications have to read their Secret again, in each of the
	// two phases of a rotation.
	Soak time.Duration
	// Given are the authorities that the user provides, by the name of the operator's own
	// Secret that is made from each; the others are the operator's to make.
	Given map[string]Given
	// Issued are the certificates of a port that somebody else issues, by the name of the
	// authority's Secret; those of other ports are the operator's to issue.
	Issued map[string]Issued
	// Leftover are the Secrets of authorities of whose ports Certificates exist.
	Leftover []string
	// Shown is what members show on their ports, by name; nil while nobody was asked.
	Shown map[string]Shown
	// Secrets are the data of the Secrets that exist and belong to this very
	// cluster (its UID, not only its name), by name.
	Secrets map[string]map[string][]byte
}

// SecretData is a Secret to write, whole.
type SecretData struct {
	Name string
	Type corev1.SecretType
	Data map[string][]byte
	// Why the Secret is written, in words for an event.
	Why string
}

// Authority says that the Secret is one of an authority: it goes from phase to phase of
// a rotation.
func (s SecretData) Authority() bool { return s.Data[KeySince] != nil }

// Reasons of problems.
const (
	// ReasonSecretMissing: an authority's Secret is gone.
	ReasonSecretMissing = "SecretMissing"
	// ReasonSecretInvalid: an authority's Secret holds something else.
	ReasonSecretInvalid = "SecretInvalid"
	// ReasonAuthorityChanged: an authority is not the one that the leaves in
	// use were issued by.
	ReasonAuthorityChanged = "AuthorityChanged"
	// ReasonAuthorityExpired: an authority has ended.
	ReasonAuthorityExpired = "AuthorityExpired"
	// ReasonAuthorityExpiring: five sixths of an authority's life are over and its
	// rotation has not come to its end.
	ReasonAuthorityExpiring = "AuthorityExpiring"
	// ReasonNotYetValid: a certificate becomes valid only in the future.
	ReasonNotYetValid = "NotYetValid"
	// ReasonIssuingFailed: a certificate could not be made.
	ReasonIssuingFailed = "IssuingFailed"
	// ReasonAuthorityRefused: the authority that the user provides cannot be used.
	ReasonAuthorityRefused = "AuthorityRefused"
	// ReasonCertificateRefused: a certificate that somebody else issues cannot be used.
	ReasonCertificateRefused = "CertificateRefused"
	// ReasonCertificateNotIssued: a certificate that somebody else issues is waited for.
	ReasonCertificateNotIssued = "CertificateNotIssued"
	// ReasonCertificateExpiring: five sixths of the life of a certificate that somebody else
	// issues are over, and there is no other one.
	ReasonCertificateExpiring = "CertificateExpiring"
	// ReasonIssuerUnavailable: cert-manager cannot be asked for certificates.
	ReasonIssuerUnavailable = "IssuerUnavailable"
)

// Problem is what stands in the way, for a condition.
type Problem struct {
	// Secret that it is about.
	Secret string
	// Reason is one of the constants above.
	Reason string
	// Message is "what — why it matters — what to do". It never holds a byte
	// of any Secret's data.
	Message string
}

// Result is what is to be done.
type Result struct {
	// Create lists Secrets that do not exist. Create them in this order, with
	// a create (never an apply), and stop at the first error: when an authority
	// turns out to exist after all, its leaves here are worthless.
	Create []SecretData
	// Renew lists Secrets that exist and get new data, in a fixed order.
	// Write them on condition of the resourceVersion that was read.
	Renew []SecretData
	// Requests are what cert-manager is to be asked for, in a fixed order.
	Requests []Request
	// Remove lists the Secrets of members that are not listed any more.
	Remove []string
	// Problems in a fixed order.
	Problems []Problem
	// NextRenewal is when the next leaf or authority falls due, or the next phase of a
	// rotation may begin; zero if none will.
	NextRenewal time.Time
	// Rotations tell how far each authority is, in a fixed order.
	Rotations []Rotation
	// Ask is set while a rotation goes on as soon as the members themselves show that
	// they have come as far: plan again with what they show now.
	Ask *Ask
	// Trust is the hash of the authorities that members are to trust.
	Trust string
	// Carried are the hashes of the authorities that members' Secrets hold, by member;
	// those of Secrets that hold none are missing.
	Carried map[string]string
}
