// Package store reaches the places where backups lie: S3 and what is compatible with
// it, Google Cloud Storage, Azure Blob Storage, and a mounted directory. It is the
// only package that imports their SDKs, and only cmd/backup imports it.
package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"

	"github.com/quorate/quorate/internal/snapshot"
)

const (
	// partSize of an upload, in bytes: the least that S3 takes. Its 10,000 parts are 48
	// GiB of compressed snapshot, six times what etcd is made for.
	partSize = 5 << 20
	// partsInFlight at once; memory is one part more.
	partsInFlight = 2
)

// ErrNotExist says that there is no object of this name.
var ErrNotExist = errors.New("no such object")

// Config is where a store is, and how to get in.
type Config struct {
	// URL is s3://BUCKET, gs://BUCKET, azblob://CONTAINER or file:///DIRECTORY.
	URL string
	// Credentials is the directory of a mounted Secret; empty for the pod's
	// workload identity.
	Credentials string
	// CA is a file of PEM authorities that the store's certificate is verified by;
	// empty for the system's.
	CA string
	// Endpoint replaces the cloud's own.
	Endpoint string
	// S3Region defaults to us-east-1.
	S3Region string
	// S3PathStyle puts the bucket into the path instead of the host name.
	S3PathStyle bool
	// AzureAccount is the storage account.
	AzureAccount string
	// SendRate is how many bytes a second are sent at most; zero for no limit. A directory has
	// none. With less than a few MiB a deadline of a connection would not be kept.
	SendRate int64
	// Asked is told how each request went, nil if the store has answered it; nil to tell
	// nobody. A directory is not asked.
	Asked func(error)
}

// Object is a stored object.
type Object struct {
	Key      string
	Size     int64
	Modified time.Time
}

// Store is one bucket. Its errors are snapshot.Failures, or wrap ErrNotExist.
type Store struct {
	bucket *blob.Bucket
	// name of the bucket, for people.
	name string
	// directory of a file store.
	directory string
	// piped: see upload.
	piped bool
	// ownIdentity says that no credentials were given: the store is shown the pod's identity.
	ownIdentity bool
	// asked: see Config.
	asked func(error)
	// remove an object; nil for the bucket's own way.
	remove func(ctx context.Context, key string) error
	// admitted says that the store has let these credentials do something.
	admitted atomic.Bool
	// uploads that were begun and never ended; nil where the store removes them
	// by itself.
	uploads func(ctx context.Context, prefix string, before time.Time) (int, error)
}

// Open prepares a store. It does not ask it anything yet, except a directory,
// which must exist.
func Open(ctx context.Context, c Config) (*Store, error) {
	parsed, err := url.Parse(c.URL)
	if err != nil {
		return nil, usage("the store is %q", c.URL)
	}
	if parsed.RawQuery != "" || parsed.User != nil || (parsed.Scheme != "file" && strings.Trim(parsed.Path, "/") != "") {
		return nil, usage("the store %s://%s has more than a name", parsed.Scheme, parsed.Host)
	}
	s := &Store{name: c.URL, asked: c.Asked, ownIdentity: c.Credentials == "" && parsed.Scheme != "file"}
	switch parsed.Scheme {
	case "s3":
		err = s.openS3(ctx, c, parsed.Host)
	case "gs":
		err = s.openGCS(ctx, c, parsed.Host)
	case "azblob":
		err = s.openAzure(ctx, c, parsed.Host)
	case "file":
		err = s.openDirectory(parsed.Path)
	default:
		err = usage("the store is %q", c.URL)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func usage(format string, arguments ...any) error {
	return snapshot.Fail(snapshot.ReasonUsage, nil,
		"%s — backups have to lie somewhere — use s3://BUCKET, gs://BUCKET, azblob://CONTAINER or file:///DIRECTORY", fmt.Sprintf(format, arguments...))
}

// openDirectory: attributes beside each file would be of no use to us, and a
// temporary file on another file system could not be renamed into place.
func (s *Store) openDirectory(path string) error {
	bucket, err := fileblob.OpenBucket(path, &fileblob.Options{
		NoTempDir: true, Metadata: fileblob.MetadataDontWrite, DirFileMode: 0o770,
	})
	if errors.Is(err, os.ErrNotExist) {
		return snapshot.Fail(snapshot.ReasonBucketMissing, err, "there is no directory %s — backups have nowhere to lie — mount a volume there", path)
	}
	if err != nil {
		return snapshot.Fail(snapshot.ReasonStoreUnreachable, err, "%v — backups have nowhere to lie — check the volume that is mounted there", err)
	}
	s.bucket, s.directory = bucket, path
	s.uploads = s.removeTemporary
	return nil
}

// removeTemporary removes the files of writes that were never finished.
func (s *Store) removeTemporary(ctx context.Context, prefix string, before time.Time) (int, error) {
	var left []string
	err := s.Each(ctx, prefix, func(o Object) {
		if strings.HasSuffix(o.Key, ".tmp") && o.Modified.Before(before) {
			left = append(left, o.Key)
		}
	})
	if err != nil {
		return 0, err
	}
	var errs []error
	removed := 0
	for _, key := range left {
		if err := s.Delete(ctx, key); err != nil {
			errs = append(errs, err)
			continue
		}
		removed++
	}
	return removed, errors.Join(errs...)
}

// Name of the store, for people.
func (s *Store) Name() string { return s.name }

// Close ends all that is open.
func (s *Store) Close() error { return s.bucket.Close() }

// Writer writes one object, which exists when Commit has returned without an error,
// and not a part of it before.
type Writer struct {
	store  *Store
	key    string
	blob   io.WriteCloser
	file   *os.File
	cancel context.CancelFunc
}

// piped is an upload that reads what is written.
type piped struct {
	*io.PipeWriter

	done chan error
}

// Close ends what is written, and waits for the upload.
func (p piped) Close() error {
	_ = p.PipeWriter.Close() // it never fails
	return <-p.done
}

// upload writes through Upload: the Close of gocloud.dev's own writer to Azure closes a
// pipe that it has set to nil when the upload failed, and the process dies of it.
func (s *Store) upload(ctx context.Context, key string, options *blob.WriterOptions) io.WriteCloser {
	r, w := io.Pipe()
	p := piped{PipeWriter: w, done: make(chan error, 1)}
	go func() {
		err := s.bucket.Upload(ctx, key, r, options)
		// Whoever writes on is told why nobody reads.
		_ = r.CloseWithError(err)
		p.done <- err
	}()
	return p
}

// Condition on a write.
type Condition int

// The conditions.
const (
	// Replace whatever object has the name.
	Replace Condition = iota
	// Create an object; one of the name must not exist. Stores that do not know
	// such a condition are asked without.
	Create
)

// Writer begins an object. Either Commit or Abort must follow.
func (s *Store) Writer(ctx context.Context, key string, condition Condition) (*Writer, error) {
	ctx, cancel := context.WithCancel(patiently(ctx))
	w := &Writer{store: s, key: key, cancel: cancel}
	options := &blob.WriterOptions{
		BufferSize: partSize, MaxConcurrency: partsInFlight, ContentType: "application/octet-stream",
		IfNotExist: condition == Create,
	}
	if s.piped {
		w.blob = s.upload(ctx, key, options)
		return w, nil
	}
	options.BeforeWrite = func(as func(any) bool) error {
		as(&w.file)
		return nil
	}
	var err error
	w.blob, err = s.bucket.NewWriter(ctx, key, options)
	if err != nil {
		cancel()
		return nil, s.explain(ctx, writing, key, err)
	}
	return w, nil
}

func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.blob.Write(p)
	if err != nil {
		err = w.store.explain(context.Background(), writing, w.key, err) //nolint:forbidigo // the error is at hand, nothing is waited for
	}
	return n, err
}

// Commit completes the object.
func (w *Writer) Commit(ctx context.Context) error {
	defer w.cancel()
	// A directory acknowledges what is in memory; a backup has to be on the disk.
	if w.file != nil {
		if err := w.file.Sync(); err != nil {
			w.Abort()
			return w.store.explain(ctx, writing, w.key, err)
		}
	}
	if err := w.blob.Close(); err != nil {
		return w.store.explain(ctx, writing, w.key, err)
	}
	w.store.admitted.Store(true)
	return w.store.syncParents(w.key)
}

// Abort leaves nothing behind.
func (w *Writer) Abort() {
	w.cancel()
	// It answers that the context was cancelled, which is what was asked for.
	_ = w.blob.Close()
}

// syncParents makes the names durable that lead to a file of a directory store.
func (s *Store) syncParents(key string) error {
	if s.directory == "" {
		return nil
	}
	for dir := filepath.Dir(key); ; dir = filepath.Dir(dir) {
		f, err := os.Open(filepath.Join(s.directory, dir))
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		if err != nil {
			return snapshot.Fail(snapshot.ReasonStoreUnreachable, err, "syncing %s: %v — the backup may be gone after a power cut — check the volume", dir, err)
		}
		if dir == "." {
			return nil
		}
	}
}

// Put writes a small object.
func (s *Store) Put(ctx context.Context, key string, content []byte, condition Condition) error {
	err := s.put(ctx, key, content, condition)
	if condition == Create && notImplemented(err) {
		return s.put(ctx, key, content, Replace)
	}
	return err
}

func (s *Store) put(ctx context.Context, key string, content []byte, condition Condition) error {
	w, err := s.Writer(ctx, key, condition)
	if err != nil {
		return err
	}
	if _, err := w.Write(content); err != nil {
		w.Abort()
		return err
	}
	return w.Commit(ctx)
}

// Reader reads an object; size is what the store says that it has.
func (s *Store) Reader(ctx context.Context, key string) (r io.ReadCloser, size int64, err error) {
	opened, err := s.bucket.NewReader(patiently(ctx), key, nil)
	if err != nil {
		return nil, 0, s.explain(ctx, "reading", key, err)
	}
	s.admitted.Store(true)
	return &reader{store: s, key: key, blob: opened}, opened.Size(), nil
}

type reader struct {
	store *Store
	key   string
	blob  *blob.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.blob.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.store.explain(context.Background(), "reading", r.key, err) //nolint:forbidigo // the error is at hand, nothing is waited for
	}
	return n, err
}

func (r *reader) Close() error { return r.blob.Close() }

// Get reads an object of at most limit bytes, and one byte more of a larger one.
func (s *Store) Get(ctx context.Context, key string, limit int64) ([]byte, error) {
	r, _, err := s.Reader(ctx, key)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var content bytes.Buffer
	if _, err := io.Copy(&content, io.LimitReader(r, limit+1)); err != nil {
		return nil, err
	}
	return content.Bytes(), nil
}

// List returns all objects whose names begin with prefix, in the order of names.
func (s *Store) List(ctx context.Context, prefix string) ([]Object, error) {
	var objects []Object
	if err := s.Each(ctx, prefix, func(o Object) { objects = append(objects, o) }); err != nil {
		return nil, err
	}
	return objects, nil
}

// Each tells of all objects whose names begin with prefix, in the order of names, and
// keeps none of them: there may be a million.
func (s *Store) Each(ctx context.Context, prefix string, tell func(Object)) error {
	iterator := s.bucket.List(&blob.ListOptions{Prefix: prefix})
	for {
		o, err := iterator.Next(patiently(ctx))
		if err == nil || errors.Is(err, io.EOF) {
			s.admitted.Store(true)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			err := s.explain(ctx, "listing", prefix, err)
			if errors.Is(err, ErrNotExist) {
				err = s.bucketMissing(err)
			}
			return err
		}
		tell(Object{Key: o.Key, Size: o.Size, Modified: o.ModTime})
	}
}

// Delete removes an object, and is content if there is none.
func (s *Store) Delete(ctx context.Context, key string) error {
	remove := s.remove
	if remove == nil {
		remove = s.bucket.Delete
	}
	err := remove(patiently(ctx), key)
	if err != nil {
		// Not by the code of gocloud.dev: it calls a deletion that Google refuses, of
		// an object that is locked for one, a missing object.
		err = s.explain(ctx, "deleting", key, err)
	}
	if err != nil && !errors.Is(err, ErrNotExist) {
		return err
	}
	s.removeEmptyParent(key)
	return nil
}

// removeEmptyParent keeps a directory store from filling with empty directories.
func (s *Store) removeEmptyParent(key string) {
	if s.directory != "" {
		// It fails as long as there is something in it.
		_ = os.Remove(filepath.Join(s.directory, filepath.Dir(key)))
	}
}

// AbortUploads ends the uploads below prefix that were begun before a time and never
// ended, and says how many.
func (s *Store) AbortUploads(ctx context.Context, prefix string, before time.Time) (int, error) {
	if s.uploads == nil {
		return 0, nil
	}
	return s.uploads(ctx, prefix, before)
}
