package snapshot

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func sample() Manifest {
	began := time.Date(2026, 3, 29, 1, 30, 0, 123e6, time.UTC)
	hash := strings.Repeat("0a", 32)
	return Manifest{
		Format: Format, ID: NewID(42, began, "nightly"), Name: "nightly", UID: "b-uid",
		Cluster:     Cluster{UID: "c-uid", ID: "48276a8f75b6a87", Namespace: "ns", Name: "etcd-cluster"},
		Etcd:        Etcd{Version: "3.6.16", StorageVersion: "3.6", Member: "etcd-cluster-0001", Revision: 42, CompactRevision: 7, KeyCount: 3, HashKV: 99, RaftTerm: 2, RaftIndex: 77},
		Plain:       Content{Bytes: 20512, SHA256: hash},
		Stored:      Content{Bytes: 745, SHA256: hash},
		Compression: CompressionZstd, Recipients: []string{"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"},
		Began: began, Ended: began.Add(time.Second),
	}
}

func TestManifestRoundTrip(t *testing.T) {
	m := sample()
	content, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := m.Encode()
	if err != nil || !bytes.Equal(content, again) {
		t.Errorf("encoded twice, the manifest differs (%v)", err)
	}
	got, err := DecodeManifest(content)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, got); diff != "" {
		t.Errorf("manifest (-want +got):\n%s", diff)
	}
}

// Every single bit of the manifest is flipped.
func TestEveryFlippedBitOfAManifestIsSeen(t *testing.T) {
	m := sample()
	v := Verification{Format: Format, ID: m.ID, ManifestChecksum: strings.Repeat("0b", 32), Time: m.Ended, EtcdVersion: "3.6.16", SnapshotRevision: 43, KeyCount: 3, HashKV: 99}
	manifest, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	verification, err := v.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		content []byte
		decode  func([]byte) error
	}{
		"manifest":     {manifest, func(c []byte) error { _, err := DecodeManifest(c); return err }},
		"verification": {verification, func(c []byte) error { _, err := DecodeVerification(c); return err }},
	} {
		t.Run(name, func(t *testing.T) {
			if err := tc.decode(tc.content); err != nil {
				t.Fatal(err)
			}
			for i := range tc.content {
				for bit := range 8 {
					damaged := bytes.Clone(tc.content)
					damaged[i] ^= 1 << bit
					if err := tc.decode(damaged); !errors.Is(err, ErrDamaged) {
						t.Fatalf("bit %d of byte %d (%q): %v, want damaged", bit, i, tc.content[i], err)
					}
				}
			}
			for n := range tc.content {
				if err := tc.decode(tc.content[:n]); !errors.Is(err, ErrDamaged) {
					t.Fatalf("cut to %d bytes: %v, want damaged", n, err)
				}
			}
			if err := tc.decode(append(bytes.Clone(tc.content), ' ')); !errors.Is(err, ErrDamaged) {
				t.Errorf("with a byte more: %v, want damaged", err)
			}
		})
	}
}

// A later format has fields that are not known here, and its own checksum.
func TestALaterFormatIsToldFromDamage(t *testing.T) {
	later := struct {
		Format   int    `json:"format"`
		New      string `json:"new"`
		Checksum string `json:"checksum"`
	}{Format: Format + 1, New: "x"}
	content, err := seal(&later, &later.Checksum)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeManifest(content); !errors.Is(err, ErrNewer) {
		t.Errorf("later format: %v, want ErrNewer", err)
	}
	content[bytes.Index(content, []byte(`"x"`))+1] = 'y'
	if _, err := DecodeManifest(content); !errors.Is(err, ErrDamaged) {
		t.Errorf("damaged later format: %v, want ErrDamaged", err)
	}
}

func TestValidateNamesWhatIsWrong(t *testing.T) {
	for field, change := range map[string]func(*Manifest){
		"format":            func(m *Manifest) { m.Format = 0 },
		"id":                func(m *Manifest) { m.ID = "../42" },
		"name":              func(m *Manifest) { m.Name = "a/b" },
		"cluster.uid":       func(m *Manifest) { m.Cluster.UID = "" },
		"cluster.id":        func(m *Manifest) { m.Cluster.ID = "0" },
		"cluster.namespace": func(m *Manifest) { m.Cluster.Namespace = "" },
		"cluster.name":      func(m *Manifest) { m.Cluster.Name = "\n" },
		"etcd.version":      func(m *Manifest) { m.Etcd.Version = "v3.6" },
		"etcd.revision":     func(m *Manifest) { m.Etcd.Revision = 0 },
		"compactRevision":   func(m *Manifest) { m.Etcd.CompactRevision = 43 },
		"keyCount":          func(m *Manifest) { m.Etcd.KeyCount = -1 },
		"plain.bytes":       func(m *Manifest) { m.Plain.Bytes = 32 },
		"plain.sha256":      func(m *Manifest) { m.Plain.SHA256 = "00" },
		"stored.bytes":      func(m *Manifest) { m.Stored.Bytes = 0 },
		"stored.sha256":     func(m *Manifest) { m.Stored.SHA256 = strings.Repeat("X", 64) },
		"compression":       func(m *Manifest) { m.Compression = "gzip" },
		"recipients":        func(m *Manifest) { m.Recipients = []string{"a b"} },
		"began":             func(m *Manifest) { m.Began = time.Time{} },
		"ended":             func(m *Manifest) { m.Ended = m.Began.Add(-1) },
	} {
		m := sample()
		change(&m)
		if err := m.Validate(); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v, want it named", field, err)
		}
		if _, err := m.Encode(); err == nil {
			t.Errorf("%s: it was encoded all the same", field)
		}
	}
}

// What a manifest says of a size is believed before anything is unpacked, so it is bounded.
func TestPlainIsBounded(t *testing.T) {
	for bytes, fits := range map[int64]bool{MaxPlain: true, MaxPlain + 1: false} {
		m := sample()
		m.Plain.Bytes = bytes
		content, err := seal(&m, &m.Checksum)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeManifest(content); errors.Is(err, ErrDamaged) == fits {
			t.Errorf("%d bytes: %v", bytes, err)
		}
	}
	s := segmentFor(1, 5, 9, "", []byte("x"))
	s.Plain.Bytes = maxSegmentPlain + 1
	if err := s.Validate(); err == nil {
		t.Errorf("a segment of %d bytes is taken", s.Plain.Bytes)
	}
}

func TestKeysAndTheirOrder(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		a, b := random.Int64N(1<<62), random.Int64N(1<<62)>>random.IntN(60)
		first, second := NewID(a, at.Add(time.Duration(random.Int64N(1e15))), "x"), NewID(b, at, "y")
		if (a < b) != (first < second) && a != b {
			t.Fatalf("revisions %d and %d, and names %s and %s", a, b, first, second)
		}
		for _, prefix := range []string{"", "a", "a/b.c"} {
			place := Place{Prefix: prefix, ClusterUID: "c-uid"}
			id, object, ok := place.Parse(place.Key(first, ManifestObject))
			if !ok || id != first || object != ManifestObject {
				t.Fatalf("%q parses as %q %q %v", place.Key(first, ManifestObject), id, object, ok)
			}
		}
	}
	place := Place{ClusterUID: "c-uid"}
	for _, key := range []string{
		"", "c-uid", "c-uid/", "c-uid/x/manifest.json", "other/" + NewID(1, at, "n") + "/snapshot",
		"c-uid/" + NewID(1, at, "n") + "/else", "c-uid/" + NewID(1, at, "n") + "/snapshot.tmp", "c-uid/" + NewID(1, at, "n") + "/snapshot/x",
	} {
		if _, _, ok := place.Parse(key); ok {
			t.Errorf("%q was taken for a part of a backup", key)
		}
	}
}

func TestPrefixes(t *testing.T) {
	for prefix, valid := range map[string]bool{
		"": true, "a": true, "a/b": true, "2026.q1/x_y": true,
		"/a": false, "a/": false, "a//b": false, "..": false, "a/../b": false, "ä": false, "a b": false, "-": false,
	} {
		if err := ValidatePrefix(prefix); (err == nil) != valid {
			t.Errorf("prefix %q: %v", prefix, err)
		}
	}
}

// TestRevisionOf an ID is what it was made with.
func TestRevisionOf(t *testing.T) {
	for id, want := range map[string]int64{NewID(4711, time.Unix(1e9, 0), "now"): 4711, "": 0, "the-id": 0} {
		if got := RevisionOf(id); got != want {
			t.Errorf("RevisionOf(%q) = %d, want %d", id, got, want)
		}
	}
}
