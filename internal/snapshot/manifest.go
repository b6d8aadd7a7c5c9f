package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Format is the version of the manifest that this package writes. It rises with
// every field that is added, because a reader must be able to write what it read
// again, byte for byte: that is how a damaged manifest is told from a newer one.
const Format = 1

// Names of the objects of one backup, below its directory.
const (
	SnapshotObject     = "snapshot"
	ManifestObject     = "manifest.json"
	VerificationObject = "verified.json"
	// UnfitObject says that a drill found that no archive can be restored from the backup.
	UnfitObject = "unfit.json"
)

// MaxManifest bounds what is read of a manifest or a verification, in bytes.
const MaxManifest = 64 << 10

// MaxPlain bounds a plain snapshot, in bytes: what a manifest says of it is believed before
// anything is written to a disk. It is four times the largest database of an EtcdCluster.
const MaxPlain = 64 << 30

// Compression of the stored object.
type Compression string

// The kinds of compression.
const (
	CompressionNone Compression = "none"
	CompressionZstd Compression = "zstd"
)

// Manifest describes one backup. It is written last, when the snapshot has been
// stored and read back: an object without a manifest is no backup.
type Manifest struct {
	// Format is Format of whoever wrote it.
	Format int `json:"format"`
	// ID is the last part of the backup's directory, see NewID.
	ID string `json:"id"`
	// Name of the backup, as its user knows it; an EtcdBackup's name.
	Name string `json:"name"`
	// UID of the EtcdBackup; empty if there is none. A process that runs again for
	// the same EtcdBackup finds its finished backup by it.
	UID string `json:"uid,omitempty"`

	Cluster Cluster `json:"cluster"`
	Etcd    Etcd    `json:"etcd"`
	// Plain is etcd's snapshot as etcd sent it, its own trailing checksum included.
	Plain Content `json:"plain"`
	// Stored is the object in the store: compressed, and encrypted if it is.
	Stored Content `json:"stored"`

	Compression Compression `json:"compression"`
	// Recipients that can decrypt it, public keys of age; none: not encrypted.
	Recipients []string `json:"recipients,omitempty"`

	// Began and Ended are the time of the work by the clock of the process, in UTC.
	// Order backups by revision, not by these.
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`

	// Checksum is the SHA-256 of the manifest as it is written with an empty
	// checksum, in hexadecimal.
	Checksum string `json:"checksum"`
}

// Cluster is whose backup it is.
type Cluster struct {
	// UID of the EtcdCluster, the same through restores in place.
	UID string `json:"uid"`
	// ID that etcd gave the cluster, in hexadecimal; another one after a restore.
	ID        string `json:"id"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// Etcd is what etcd said of the data.
type Etcd struct {
	// Version of the member that sent the snapshot, without a leading v.
	Version string `json:"version"`
	// StorageVersion of the snapshot, such as "3.6"; empty before etcd 3.6, which
	// does not tell.
	StorageVersion string `json:"storageVersion,omitempty"`
	// Member is the name of the member that sent the snapshot.
	Member string `json:"member"`
	// Revision that a linearizable read through that member returned before the
	// snapshot was asked for: the snapshot holds it and perhaps a few later ones.
	// KeyCount and HashKV are the live cluster's at this revision.
	Revision int64 `json:"revision"`
	// CompactRevision is the revision that HashKV was computed from.
	CompactRevision int64 `json:"compactRevision"`
	// KeyCount is the number of keys.
	KeyCount int64 `json:"keyCount"`
	// HashKV is etcd's hash of all revisions from CompactRevision to Revision.
	HashKV uint32 `json:"hashKV"`
	// RaftTerm and RaftIndex are the member's, applied before the read.
	RaftTerm  uint64 `json:"raftTerm"`
	RaftIndex uint64 `json:"raftIndex"`
}

// Content is a sequence of bytes.
type Content struct {
	// Bytes is the size.
	Bytes int64 `json:"bytes"`
	// SHA256 in hexadecimal.
	SHA256 string `json:"sha256"`
}

var (
	// ErrDamaged says that the object is not what was written.
	ErrDamaged = errors.New("damaged")
	// ErrNewer says that the object was written in a later format than this program knows.
	ErrNewer = errors.New("written by a later version of this program")
)

// Encode validates the manifest, sets its checksum and returns the object. The same
// manifest always gives the same bytes.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("encoding the manifest: %w", err)
	}
	return seal(m, &m.Checksum)
}

// DecodeManifest reads a manifest that Encode wrote. Any other byte than those that
// Encode wrote gives an error that wraps ErrDamaged or ErrNewer.
func DecodeManifest(content []byte) (Manifest, error) {
	var m Manifest
	if err := unseal(content, &m, &m.Format, &m.Checksum); err != nil {
		return Manifest{}, fmt.Errorf("reading the manifest: %w", err)
	}
	if err := m.Validate(); err != nil {
		return Manifest{}, fmt.Errorf("reading the manifest: %w: %w", ErrDamaged, err)
	}
	return m, nil
}

// seal encodes value with its checksum. checksum points into value.
func seal(value any, checksum *string) ([]byte, error) {
	*checksum = ""
	content, err := encode(value)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(content)
	*checksum = hex.EncodeToString(sum[:])
	return encode(value)
}

func encode(value any) ([]byte, error) {
	content, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	return append(content, '\n'), nil
}

// unseal decodes content into value, into which format and checksum point. JSON
// forgives much (letter case, white space, what follows), so what was read is
// written again and compared.
func unseal(content []byte, value any, format *int, checksum *string) error {
	if len(content) > MaxManifest {
		return fmt.Errorf("%w: larger than %d bytes", ErrDamaged, MaxManifest)
	}
	if err := json.Unmarshal(content, value); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if *format > Format && wholeOfLaterFormat(content, *format) {
		return fmt.Errorf("%w: format %d, this program knows %d", ErrNewer, *format, Format)
	}
	written := *checksum
	again, err := seal(value, checksum)
	if err != nil {
		return err
	}
	if written != *checksum || !bytes.Equal(content, again) {
		return fmt.Errorf("%w: its checksum does not match", ErrDamaged)
	}
	return nil
}

// wholeOfLaterFormat says whether content, whose fields are not all known, carries
// its own checksum: all formats are sealed in the same way.
func wholeOfLaterFormat(content []byte, format int) bool {
	var stored struct {
		Checksum string `json:"checksum"`
	}
	if json.Unmarshal(content, &stored) != nil || len(stored.Checksum) != 2*sha256.Size {
		return false
	}
	sum := sha256.Sum256(bytes.Replace(content, []byte(stored.Checksum), nil, 1))
	return format > Format && stored.Checksum == hex.EncodeToString(sum[:])
}

var (
	hex64  = regexp.MustCompile(`^[0-9a-f]{64}$`)
	number = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?$`)
	// word is what may be part of an object's name: of a DNS label or subdomain.
	word = regexp.MustCompile(`^[0-9A-Za-z]([0-9A-Za-z._-]*[0-9A-Za-z])?$`)
	idOf = regexp.MustCompile(`^[0-9]{20}-[0-9]{8}T[0-9]{6}\.[0-9]{3}Z-[0-9A-Za-z]([0-9A-Za-z._-]*[0-9A-Za-z])?$`)
)

// Validate returns all that is wrong with the manifest, its checksum apart.
func (m *Manifest) Validate() error {
	var errs []error
	wrong := func(when bool, field string, value any) {
		if when {
			errs = append(errs, fmt.Errorf("%s is %q", field, fmt.Sprint(value)))
		}
	}
	id, err := strconv.ParseUint(m.Cluster.ID, 16, 64)
	wrong(m.Format < 1 || m.Format > Format, "format", m.Format)
	wrong(!ValidID(m.ID), "id", m.ID)
	wrong(!word.MatchString(m.Name), "name", m.Name)
	wrong(!word.MatchString(m.Cluster.UID), "cluster.uid", m.Cluster.UID)
	wrong(err != nil || id == 0, "cluster.id", m.Cluster.ID)
	wrong(!word.MatchString(m.Cluster.Namespace), "cluster.namespace", m.Cluster.Namespace)
	wrong(!word.MatchString(m.Cluster.Name), "cluster.name", m.Cluster.Name)
	for _, recipient := range m.Recipients {
		wrong(!word.MatchString(recipient), "one of recipients", recipient)
	}
	wrong(!number.MatchString(m.Etcd.Version), "etcd.version", m.Etcd.Version)
	wrong(m.Etcd.Revision < 1, "etcd.revision", m.Etcd.Revision)
	wrong(m.Etcd.CompactRevision > m.Etcd.Revision, "etcd.compactRevision", m.Etcd.CompactRevision)
	wrong(m.Etcd.KeyCount < 0, "etcd.keyCount", m.Etcd.KeyCount)
	wrong(m.Plain.Bytes <= sha256.Size || m.Plain.Bytes > MaxPlain, "plain.bytes", m.Plain.Bytes)
	wrong(!hex64.MatchString(m.Plain.SHA256), "plain.sha256", m.Plain.SHA256)
	wrong(m.Stored.Bytes < 1, "stored.bytes", m.Stored.Bytes)
	wrong(!hex64.MatchString(m.Stored.SHA256), "stored.sha256", m.Stored.SHA256)
	wrong(m.Compression != CompressionNone && m.Compression != CompressionZstd, "compression", m.Compression)
	wrong(m.Began.IsZero() || m.Began.Location() != time.UTC, "began", m.Began)
	wrong(m.Ended.Before(m.Began) || m.Ended.Location() != time.UTC, "ended", m.Ended)
	return errors.Join(errs...)
}

// Encrypted says whether it takes a key to read the snapshot.
func (m *Manifest) Encrypted() bool { return len(m.Recipients) > 0 }

// Verification records that a backup was restored, served by a real etcd and
// compared with the manifest. It lies beside the manifest.
type Verification struct {
	Format int `json:"format"`
	// ID of the backup.
	ID string `json:"id"`
	// ManifestChecksum is the Checksum of the manifest that it speaks of.
	ManifestChecksum string `json:"manifestChecksum"`
	// Time when the comparison was done, in UTC.
	Time time.Time `json:"time"`
	// EtcdVersion that served the restored data, without a leading v.
	EtcdVersion string `json:"etcdVersion"`
	// SnapshotRevision is the last revision in the snapshot, Revision of the
	// manifest or later.
	SnapshotRevision int64  `json:"snapshotRevision"`
	KeyCount         int64  `json:"keyCount"`
	HashKV           uint32 `json:"hashKV"`
	// Checksum as in Manifest.
	Checksum string `json:"checksum"`
}

// Encode sets the checksum and returns the object.
func (v *Verification) Encode() ([]byte, error) { return seal(v, &v.Checksum) }

// DecodeVerification reads a verification that Encode wrote; errors are as those of
// DecodeManifest.
func DecodeVerification(content []byte) (Verification, error) {
	var v Verification
	if err := unseal(content, &v, &v.Format, &v.Checksum); err != nil {
		return Verification{}, fmt.Errorf("reading the verification: %w", err)
	}
	if v.Format < 1 || !ValidID(v.ID) || v.Time.IsZero() {
		return Verification{}, fmt.Errorf("reading the verification: %w: it lacks a part", ErrDamaged)
	}
	return v, nil
}

// Of says whether the verification speaks of this very manifest.
func (v *Verification) Of(m *Manifest) bool {
	return v.ID == m.ID && v.ManifestChecksum == m.Checksum && m.Checksum != ""
}

// idTime is the time in an ID: UTC, in milliseconds, without a colon, which some
// stores and file systems do not take.
const idTime = "20060102T150405.000Z"

// NewID is "<revision>-<time>-<name>", the revision padded so that the order of
// names is the order of revisions.
func NewID(revision int64, at time.Time, name string) string {
	return fmt.Sprintf("%020d-%s-%s", revision, at.UTC().Format(idTime), name)
}

// RevisionOf an ID: what NewID was told; zero for what is none of its IDs.
func RevisionOf(id string) int64 {
	digits, _, _ := strings.Cut(id, "-")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// BeganOf an ID: the time that NewID was told; zero for what is none of its IDs.
func BeganOf(id string) time.Time {
	_, rest, _ := strings.Cut(id, "-")
	text, _, _ := strings.Cut(rest, "-")
	began, err := time.Parse(idTime, text)
	if err != nil {
		return time.Time{}
	}
	return began
}

// NameOf an ID: the name that NewID was told; empty for what is none of its IDs.
func NameOf(id string) string {
	_, rest, _ := strings.Cut(id, "-")
	_, name, _ := strings.Cut(rest, "-")
	return name
}

// ValidID says whether id is one of NewID's. Anything else in a store is not ours.
func ValidID(id string) bool { return len(id) <= 512 && idOf.MatchString(id) }

// Place is where the backups of one cluster lie in a store.
type Place struct {
	// Prefix within the store, without a slash at either end; it may be empty.
	Prefix string
	// ClusterUID is the UID of the EtcdCluster.
	ClusterUID string
}

// Validate returns what is wrong with the place.
func (p Place) Validate() error {
	if !word.MatchString(p.ClusterUID) {
		return fmt.Errorf("the cluster's UID is %q", p.ClusterUID)
	}
	return ValidatePrefix(p.Prefix)
}

// ValidatePrefix returns what is wrong with a prefix. It is part of objects' names
// and, in a directory, of a path.
func ValidatePrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	for part := range strings.SplitSeq(prefix, "/") {
		if !word.MatchString(part) {
			return fmt.Errorf("the prefix is %q — each part between slashes becomes a part of an object's name — use letters, digits, '.', '_' and '-', and begin and end each part with a letter or digit", prefix)
		}
	}
	return nil
}

// Directory is the beginning of all the cluster's objects' names, a slash included.
func (p Place) Directory() string {
	if p.Prefix == "" {
		return p.ClusterUID + "/"
	}
	return p.Prefix + "/" + p.ClusterUID + "/"
}

// Key is the name of one object of a backup.
func (p Place) Key(id, object string) string { return p.Directory() + id + "/" + object }

// Parse is the opposite of Key. ok is false for the names of objects that are not
// part of a backup of this cluster.
func (p Place) Parse(key string) (id, object string, ok bool) {
	rest, ok := strings.CutPrefix(key, p.Directory())
	if !ok {
		return "", "", false
	}
	id, object, ok = strings.Cut(rest, "/")
	known := object == SnapshotObject || object == ManifestObject || object == VerificationObject || object == UnfitObject
	if !ok || !known || !ValidID(id) {
		return "", "", false
	}
	return id, object, true
}
