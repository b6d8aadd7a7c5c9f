package job

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"filippo.io/age"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/snapshot/store"
)

const (
	// portTries is how often etcd gets other ports because its own were taken.
	portTries = 5
	// serveTimeout: etcd reads its whole index before it serves.
	serveTimeout = 10 * time.Minute
	// serveInterval between two looks whether it does.
	serveInterval = 100 * time.Millisecond
	// stopTimeout before an etcd that was told to end is killed.
	stopTimeout = 20 * time.Second
	// drillQuota, in bytes: above any database that etcd is made for, so that a
	// drill is never short of what the cluster had.
	drillQuota = snapshot.MaxPlain
	// replayOps and replayBytes bound one revision that is replayed: deleting a range, a
	// short request, is as many deletions as there were keys.
	replayOps, replayBytes = 1 << 24, 1 << 29
)

// Drill is which backup to verify, and with what.
type Drill struct {
	// ID of the backup, or Latest.
	ID         string
	Identities []age.Identity
	Tools      Tools
	// WorkDir is a directory with room for the plain snapshot twice. What the drill
	// puts there it removes.
	WorkDir string
}

// Drilled is what a drill found.
type Drilled struct {
	Manifest     snapshot.Manifest
	Verification snapshot.Verification
	// Unrecorded is why the verification could not be written beside the manifest;
	// it holds all the same.
	Unrecorded error
}

// Drill restores a backup, has a real etcd serve it, and compares it with what the
// live cluster said of the same revision.
func (e *Env) Drill(ctx context.Context, d Drill) (Drilled, error) {
	m, err := e.find(ctx, d.ID)
	if err != nil {
		return Drilled{}, err
	}
	version, err := versionOf(ctx, d.Tools.Etcd, "--version")
	if err != nil {
		return Drilled{Manifest: m}, err
	}
	if err := compatible(m, version); err != nil {
		return Drilled{Manifest: m}, err
	}
	dir, err := os.MkdirTemp(d.WorkDir, "drill-")
	if err != nil {
		return Drilled{Manifest: m}, explainDisk("using "+d.WorkDir, err)
	}
	defer os.RemoveAll(dir)
	v, err := e.rehearse(ctx, d, m, dir)
	if err != nil && ctx.Err() != nil {
		err = interrupted(ctx)
	}
	if err != nil {
		e.disprove(ctx, m, err)
		return Drilled{Manifest: m}, err
	}
	v.Format, v.ID, v.ManifestChecksum = snapshot.Format, m.ID, m.Checksum
	v.Time, v.EtcdVersion = e.Now().UTC().Truncate(time.Second), version
	return Drilled{Manifest: m, Verification: v, Unrecorded: e.record(ctx, &v)}, nil
}

func (e *Env) record(ctx context.Context, v *snapshot.Verification) error {
	content, err := v.Encode()
	if err != nil {
		return err
	}
	return e.Store.Put(ctx, e.Place.Key(v.ID, snapshot.VerificationObject), content, store.Replace)
}

// disprove takes back what an earlier drill has recorded, once one has shown that the
// backup is bad: whoever reads the store alone would restore it as a verified one, and a
// retention keep it as the last. A drill that could not read it has shown nothing.
func (e *Env) disprove(ctx context.Context, m snapshot.Manifest, why error) {
	if !snapshot.ReasonOf(why).Condemns() {
		return
	}
	key := e.Place.Key(m.ID, snapshot.VerificationObject)
	if err := e.Store.Delete(ctx, key); err != nil {
		e.Log.Warn("The verification of a bad backup stays in the store", "object", key, "error", err.Error())
	}
}

// rehearse works in dir.
func (e *Env) rehearse(ctx context.Context, d Drill, m snapshot.Manifest, dir string) (v snapshot.Verification, err error) {
	file := filepath.Join(dir, "snapshot.db")
	if err := e.fetch(ctx, m, d.Identities, file); err != nil {
		return v, err
	}
	e.Tracker.enter(snapshot.PhaseRestoring, 1, 0)
	server, err := newServer(d.Tools, dir)
	if err != nil {
		return v, err
	}
	if err := d.Tools.restore(ctx, file, server.dataDir(), server.as()); err != nil {
		return v, err
	}
	if err := os.Remove(file); err != nil {
		return v, explainDisk("using "+dir, err)
	}
	if err := server.start(ctx); err != nil {
		return v, err
	}
	defer server.stop()
	e.Tracker.enter(snapshot.PhaseComparing, 1, 0)
	return server.compare(ctx, m)
}

// server is the etcd that serves the restored data, to this process alone: on
// loopback, with certificates that live as long as the drill. The client's common
// name is root, since the data may have authentication on.
type server struct {
	binary, dir string
	// patience is how long etcd may take until it serves.
	patience     time.Duration
	client, peer string // host:port
	transport    credentials.TransportCredentials
	// flags beside those that every server has.
	flags   []string
	command *exec.Cmd
	done    chan struct{}
	words   *lastWords
}

func newServer(tools Tools, dir string) (*server, error) {
	s := &server{binary: tools.Etcd, dir: dir, patience: cmp.Or(tools.Patience, serveTimeout)}
	if err := s.choosePorts(); err != nil {
		return nil, err
	}
	var err error
	if s.transport, err = issue(dir); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *server) choosePorts() (err error) {
	s.client, s.peer, err = twoPorts(mathrand.IntN)
	return err
}

// twoPorts are addresses that differ: the one is held until the other is found.
func twoPorts(random func(n int) int) (client, peer string, err error) {
	first, err := freePort(random)
	if err != nil {
		return "", "", err
	}
	defer first.Close()
	second, err := freePort(random)
	if err != nil {
		return "", "", err
	}
	return first.Addr().String(), second.Addr().String(), second.Close()
}

// freePort is held, and is one that etcd can take when it is let go. The kernel's choice
// (":0") is not: it lies among the ports of outgoing connections, one of which may take it in
// between, and the drill would fail for no fault of the backup.
func freePort(random func(n int) int) (net.Listener, error) {
	const lowest, count, tries = 10000, 7000, 100
	var err error
	for range tries {
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lowest+random(count))); err == nil {
			return l, nil
		}
	}
	return nil, fmt.Errorf("finding a free port: %w", err)
}

// issue writes ca.crt, tls.crt and tls.key, which the server and the client use.
func issue(dir string) (credentials.TransportCredentials, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(7 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a key: %w", err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	for name, content := range map[string][]byte{"ca.crt": certPEM, "tls.crt": certPEM, "tls.key": keyPEM} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return nil, explainDisk("using "+dir, err)
		}
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("pairing a key: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	return credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12}), nil
}

func (s *server) dataDir() string { return filepath.Join(s.dir, "data") }

const drillMember = "drill"

func (s *server) as() As {
	return As{Name: drillMember, InitialCluster: drillMember + "=http://" + s.peer, Token: "drill", PeerURLs: "http://" + s.peer}
}

// start returns when etcd answers a linearizable read. Somebody may have taken a port since
// it was chosen: then etcd gets others, which are all the same to the data.
func (s *server) start(ctx context.Context) error {
	for try := 1; ; try++ {
		err := s.launch(ctx)
		if !errors.Is(err, syscall.EADDRINUSE) || try == portTries {
			return err
		}
		if err := s.choosePorts(); err != nil {
			return err
		}
	}
}

func (s *server) launch(ctx context.Context) error {
	as := s.as()
	file := func(name string) string { return filepath.Join(s.dir, name) }
	s.command = exec.Command(s.binary, append([]string{
		"--name=" + as.Name, "--data-dir=" + s.dataDir(), "--log-level=warn", "--unsafe-no-fsync", "--quota-backend-bytes=" + strconv.FormatInt(drillQuota, 10),
		"--max-txn-ops=" + strconv.Itoa(replayOps), "--max-request-bytes=" + strconv.Itoa(replayBytes),
		"--listen-client-urls=https://" + s.client, "--advertise-client-urls=https://" + s.client,
		"--client-cert-auth", "--trusted-ca-file=" + file("ca.crt"), "--cert-file=" + file("tls.crt"), "--key-file=" + file("tls.key"),
		"--listen-peer-urls=" + as.PeerURLs, "--initial-advertise-peer-urls=" + as.PeerURLs, "--initial-cluster=" + as.InitialCluster, "--initial-cluster-token=" + as.Token,
	}, s.flags...)...)
	// Nothing of the environment may configure it.
	s.command.Env = []string{"PATH=" + os.Getenv("PATH")}
	s.done, s.words = make(chan struct{}), &lastWords{}
	s.command.Stdout, s.command.Stderr = s.words, s.words
	if err := s.command.Start(); err != nil {
		return cannotRun(s.binary, err)
	}
	go func() {
		// Its exit code says no more than its last words.
		_ = s.command.Wait()
		close(s.done)
	}()
	err := s.awaitServing(ctx)
	if err != nil {
		s.stop()
	}
	return err
}

// awaitServing says that a backup is bad only if etcd itself ends on it: that nobody waited, or
// that etcd is slow, shows nothing.
func (s *server) awaitServing(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	conn, err := s.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	ticker := time.NewTicker(serveInterval)
	defer ticker.Stop()
	for {
		_, _, err := (&source{conn: conn}).latest(within)
		if err == nil {
			return nil
		}
		select {
		case <-s.done:
			return s.ended(ctx)
		case <-within.Done():
			if ctx.Err() != nil {
				return interrupted(ctx)
			}
			return snapshot.Fail(snapshot.ReasonEtcdUnreachable, err,
				"etcd does not serve the restored data after %s: %v — whether that can be restored is not known — give the pod more of a processor if it stays", s.patience, err)
		case <-ticker.C:
		}
	}
}

// ended is why etcd has ended before it served anything.
func (s *server) ended(ctx context.Context) error {
	if ctx.Err() != nil { // whoever told this process to end may have told etcd as well
		return interrupted(ctx)
	}
	if err := blameless(s.command, s.words, s.dataDir()); err != nil {
		return err
	}
	return snapshot.Fail(snapshot.ReasonNotRestorable, nil, "etcd ends on the restored data: %s — this backup cannot be restored — take a new one", s.words)
}

func (s *server) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+s.client, grpc.WithTransportCredentials(s.transport), grpc.WithNoProxy(), grpc.WithDisableServiceConfig())
}

// stop ends etcd and waits until it has ended.
func (s *server) stop() {
	// It fails when etcd has ended already.
	_ = s.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(stopTimeout):
		_ = s.command.Process.Kill()
		<-s.done
	}
}

// compare asks the restored etcd for what the live one said at the same revision.
func (s *server) compare(ctx context.Context, m snapshot.Manifest) (v snapshot.Verification, err error) {
	conn, err := s.dial()
	if err != nil {
		return v, err
	}
	defer conn.Close()
	return compareBackup(ctx, conn, m)
}

// compareBackup asks an etcd that serves a backup for what its manifest says.
func compareBackup(ctx context.Context, conn *grpc.ClientConn, m snapshot.Manifest) (v snapshot.Verification, err error) {
	v.SnapshotRevision, _, err = (&source{conn: conn}).latest(ctx)
	if err != nil {
		return v, err
	}
	if v.SnapshotRevision < m.Etcd.Revision {
		return v, differs(m, "the last revision", m.Etcd.Revision, v.SnapshotRevision)
	}
	got, err := compactedTo(ctx, conn, m.Etcd)
	if err != nil {
		return v, err
	}
	count, err := pb.NewKVClient(conn).Range(ctx, kv(m.Etcd.Revision))
	if err != nil {
		return v, explainEtcd(err)
	}
	v.HashKV, v.KeyCount = got.hash, count.GetCount()
	switch {
	case v.KeyCount != m.Etcd.KeyCount:
		return v, differs(m, "the number of keys", m.Etcd.KeyCount, v.KeyCount)
	case got.compacted != m.Etcd.CompactRevision:
		return v, snapshot.Fail(snapshot.ReasonCompacted, nil,
			"backup %s is hashed from revision %d on, and the live cluster was from %d on — the two cannot be compared, and nothing is shown of the backup — take another one", m.ID, got.compacted, m.Etcd.CompactRevision)
	case got.hash != m.Etcd.HashKV:
		return v, differs(m, "the hash", m.Etcd.HashKV, got.hash)
	}
	return v, nil
}

// compactedTo hashes, after compacting what the live cluster had compacted when it
// was hashed: that happened after the snapshot was taken.
func compactedTo(ctx context.Context, conn *grpc.ClientConn, live snapshot.Etcd) (hashed, error) {
	got, err := hashAt(ctx, conn, live.Revision)
	if err != nil || got.compacted >= live.CompactRevision {
		return got, err
	}
	if _, err := pb.NewKVClient(conn).Compact(ctx, &pb.CompactionRequest{Revision: live.CompactRevision, Physical: true}); err != nil {
		return hashed{}, explainEtcd(err)
	}
	return hashAt(ctx, conn, live.Revision)
}

func differs(m snapshot.Manifest, what string, live, restored any) error {
	return snapshot.Fail(snapshot.ReasonDiffers, errors.New(what),
		"%s of backup %s is %v at revision %d, and was %v in the live cluster — what would be restored is not what was there — take a new backup, and compare etcdctl endpoint hashkv of all members",
		what, m.ID, restored, m.Etcd.Revision, live)
}
