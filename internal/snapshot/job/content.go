package job

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/quorate/quorate/internal/snapshot"
)

// digest counts and hashes what is written to it.
type digest struct {
	hash  hash.Hash
	bytes int64
}

func newDigest() *digest { return &digest{hash: sha256.New()} }

func (d *digest) Write(p []byte) (int, error) {
	d.bytes += int64(len(p))
	return d.hash.Write(p)
}

func (d *digest) content() snapshot.Content {
	return snapshot.Content{Bytes: d.bytes, SHA256: hex.EncodeToString(d.hash.Sum(nil))}
}

// sealed digests etcd's snapshot, which ends with the SHA-256 of all before. One
// hash serves both: it lags behind by as much as the checksum takes.
type sealed struct {
	digest
	tail []byte // the last bytes, not hashed yet
}

func newSealed() *sealed { return &sealed{digest: *newDigest()} }

func (s *sealed) Write(p []byte) (int, error) {
	n := len(p)
	s.bytes += int64(n)
	if n >= sha256.Size {
		s.hash.Write(s.tail)
		s.hash.Write(p[:n-sha256.Size])
		s.tail = append(s.tail[:0], p[n-sha256.Size:]...)
		return n, nil
	}
	s.tail = append(s.tail, p...)
	if over := len(s.tail) - sha256.Size; over > 0 {
		s.hash.Write(s.tail[:over])
		s.tail = append(s.tail[:0], s.tail[over:]...)
	}
	return n, nil
}

// errUnsealed: the snapshot does not end with its own checksum.
var errUnsealed = errors.New("etcd's own checksum at the end of the snapshot does not match")

// finish says what the whole content was, once it has been written. etcd's database
// is a number of whole pages, so anything else was cut.
func (s *sealed) finish() (snapshot.Content, error) {
	if s.bytes%512 != sha256.Size || !bytes.Equal(s.hash.Sum(nil), s.tail) {
		return snapshot.Content{}, errUnsealed
	}
	s.hash.Write(s.tail)
	return s.content(), nil
}

// packer compresses and encrypts what is written to it. Close ends both.
type packer struct {
	io.Writer
	closers []io.Closer // outermost first
}

// pack writes to stored. Compression comes first: what is encrypted cannot be
// compressed.
func pack(stored io.Writer, compression snapshot.Compression, recipients []age.Recipient) (*packer, error) {
	p := &packer{Writer: stored}
	if len(recipients) > 0 {
		encrypted, err := age.Encrypt(p.Writer, recipients...)
		if err != nil {
			return nil, snapshot.Fail(snapshot.ReasonBadRecipient, err, "encrypting for the recipients: %v — the backup would be unreadable — correct them", err)
		}
		p.Writer, p.closers = encrypted, append([]io.Closer{encrypted}, p.closers...)
	}
	if compression == snapshot.CompressionZstd {
		compressed, err := zstd.NewWriter(p.Writer, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(zstdWindow), zstd.WithEncoderConcurrency(2))
		if err != nil {
			return nil, fmt.Errorf("compressing: %w", err)
		}
		p.Writer, p.closers = compressed, append([]io.Closer{compressed}, p.closers...)
	}
	return p, nil
}

// zstdWindow bounds the memory of both sides, in bytes.
const zstdWindow = 1 << 20

func (p *packer) Close() error {
	var errs []error
	for _, c := range p.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// unpack decrypts and decompresses. The returned function frees what it holds.
func unpack(stored io.Reader, m snapshot.Manifest, identities []age.Identity) (io.Reader, func(), error) {
	plain, release := stored, func() {}
	if m.Encrypted() {
		decrypted, err := decrypt(plain, m, identities)
		if err != nil {
			return nil, nil, err
		}
		plain = decrypted
	}
	if m.Compression == snapshot.CompressionZstd {
		decompressed, err := zstd.NewReader(plain, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(64<<20))
		if err != nil {
			return nil, nil, fmt.Errorf("decompressing: %w", err)
		}
		plain, release = decompressed, decompressed.Close
	}
	return plain, release, nil
}

func decrypt(stored io.Reader, m snapshot.Manifest, identities []age.Identity) (io.Reader, error) {
	decrypted, err := age.Decrypt(stored, identities...)
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return nil, keyMissing(m, identities, err)
	}
	if err != nil {
		return nil, fmt.Errorf("decrypting: %w", err)
	}
	return decrypted, nil
}

func keyMissing(m snapshot.Manifest, identities []age.Identity, cause error) error {
	return snapshot.Fail(snapshot.ReasonKeyMissing, cause,
		"backup %s is encrypted for %s, and none of the %d identities is one of them — it cannot be read — give the private key that belongs to a recipient",
		m.ID, shorten(m.Recipients), len(identities))
}

// shorten names the recipients; one of a post-quantum kind is two pages long.
func shorten(recipients []string) string {
	var b bytes.Buffer
	for i, r := range recipients {
		if i > 0 {
			b.WriteString(", ")
		}
		if len(r) > 70 {
			r = r[:60] + "…"
		}
		b.WriteString(r)
	}
	return b.String()
}
