package snapshot

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/test/freeport"
	"github.com/quorate/quorate/test/integration/etcdbinary"
)

// versions that are supported, oldest first.
var versions = []string{"3.5.35", "3.6.16", "3.7.3"}

// Programs under test, built once.
var backupBinary, memberBinary string

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	// The tests that are parallel wait most of the time, for a client's next try.
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "quorate-backup-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	backupBinary, memberBinary = filepath.Join(dir, "backup"), filepath.Join(dir, "member")
	for binary, pkg := range map[string]string{backupBinary: "backup", memberBinary: "member"} {
		build := exec.Command("go", "build", "-o", binary, "github.com/quorate/quorate/cmd/"+pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building %s: %v\n%s", pkg, err, out)
			return 1
		}
	}
	return m.Run()
}

// tool is a program beside etcd.
func tool(t testing.TB, version, name string) string {
	t.Helper()
	return filepath.Join(filepath.Dir(etcdbinary.Find(t, version)), name)
}

// process runs until the test ends or it is stopped.
type process struct {
	command *exec.Cmd
	done    chan struct{}
	err     error
}

func start(t testing.TB, log string, command *exec.Cmd) *process {
	t.Helper()
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	command.Stdout, command.Stderr = out, out
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{command: command, done: make(chan struct{})}
	go func() {
		p.err = command.Wait()
		close(p.done)
	}()
	t.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	_ = p.command.Process.Signal(syscall.SIGKILL)
	<-p.done
}

func eventually(t testing.TB, within time.Duration, what string, try func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// keyPair is a certificate that is its own authority, server and client: root's, as
// etcd's authentication sees it.
type keyPair struct {
	certFile, keyFile string
	tls               *tls.Config
}

func newKeyPair(t testing.TB, hosts ...string) keyPair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: hosts,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	pair := keyPair{certFile: filepath.Join(dir, "tls.crt"), keyFile: filepath.Join(dir, "tls.key")}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	write(t, pair.certFile, string(certPEM))
	write(t, pair.keyFile, string(keyPEM))
	loaded, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	pair.tls = &tls.Config{Certificates: []tls.Certificate{loaded}, RootCAs: roots, MinVersion: tls.VersionTLS12}
	return pair
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// etcd is a real member with TLS on its client port.
type etcd struct {
	*process

	version, name, dir   string
	clientURL, peer, log string
	pair                 keyPair
	client               *clientv3.Client
}

func (e *etcd) flags(initial string) []string {
	return []string{
		"--name=" + e.name, "--listen-client-urls=" + e.clientURL, "--advertise-client-urls=" + e.clientURL,
		"--listen-peer-urls=http://" + e.peer, "--initial-advertise-peer-urls=http://" + e.peer, "--initial-cluster-token=" + token,
		"--client-cert-auth", "--trusted-ca-file=" + e.pair.certFile, "--cert-file=" + e.pair.certFile, "--key-file=" + e.pair.keyFile,
		"--log-level=warn", "--unsafe-no-fsync", "--quota-backend-bytes=8589934592", "--initial-cluster=" + initial,
	}
}

const token = "test-token"

func newEtcd(t testing.TB, version, name string) *etcd {
	t.Helper()
	dir := t.TempDir()
	return &etcd{
		version: version, name: name, dir: dir, clientURL: "https://" + freeport.Address(t), peer: freeport.Address(t), log: filepath.Join(dir, "log"), pair: newKeyPair(t),
	}
}

func (e *etcd) initial() string { return e.name + "=http://" + e.peer }

// startEtcd founds a cluster of one.
func startEtcd(t testing.TB, version string) *etcd {
	t.Helper()
	e := newEtcd(t, version, "source")
	e.process = start(t, e.log, exec.Command(etcdbinary.Find(t, version), append(e.flags(e.initial()), "--data-dir="+filepath.Join(e.dir, "data"))...))
	e.connect(t)
	return e
}

// connect waits until etcd serves.
func (e *etcd) connect(t testing.TB) {
	t.Helper()
	var err error
	e.client, err = clientv3.New(clientv3.Config{Endpoints: []string{e.clientURL}, TLS: e.pair.tls, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.client.Close() })
	eventually(t, 30*time.Second, "etcd "+e.version+" does not serve", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := e.client.Get(ctx, "x")
		if err != nil {
			select {
			case <-e.done:
				content, _ := os.ReadFile(e.log)
				t.Fatalf("etcd ended: %s", content)
			default:
			}
		}
		return err
	})
}

func (e *etcd) clusterID(t testing.TB) string {
	t.Helper()
	status, err := e.client.Status(t.Context(), e.clientURL)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", status.Header.ClusterId)
}

// bucket is a place for backups and the flags that lead there.
type bucket struct {
	flags []string
	// dir is where the objects lie as files.
	dir string
	// uid of the cluster, if it is not clusterUID.
	uid string
	// environment of whoever goes there, beside the test's.
	environment []string
}

// of is the same store, and another cluster.
func (b bucket) of(uid string) bucket {
	b.uid = uid
	return b
}

func directoryBucket(t testing.TB) bucket {
	t.Helper()
	dir := t.TempDir()
	return bucket{dir: dir, flags: []string{"--store=file://" + dir}}
}

const (
	accessKey = "test-key-id"
	secretKey = "test-secret-key"
)

func versitygw(t testing.TB) string {
	t.Helper()
	path := os.Getenv("QUORATE_VERSITYGW")
	if path == "" {
		path = filepath.Join(filepath.Dir(etcdbinary.Path("")), "..", "..", "bin", "versitygw")
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no S3 server (%v); run: make setup-assets", err)
	}
	return path
}

// startGateway runs an S3 server for this test.
func startGateway(t testing.TB, flags ...string) (url, dir string) {
	t.Helper()
	dir = t.TempDir()
	address := freeport.Address(t)
	command := exec.Command(versitygw(t), append(append([]string{"--port", address}, flags...), "posix", dir)...)
	command.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+accessKey, "ROOT_SECRET_KEY="+secretKey)
	p := start(t, filepath.Join(t.TempDir(), "log"), command)
	eventually(t, 20*time.Second, "the S3 server does not serve", func() error {
		select {
		case <-p.done:
			t.Fatalf("the S3 server ended: %v", p.err)
		default:
		}
		r, err := http.Get("http://" + address)
		if err != nil {
			return err
		}
		return r.Body.Close()
	})
	return "http://" + address, dir
}

func s3Bucket(t testing.TB) bucket {
	t.Helper()
	url, dir := startGateway(t)
	b := bucket{dir: filepath.Join(dir, "backups")}
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b.flags = s3Flags(t, url)
	return b
}

// endpoint of an S3 server.
func (b bucket) endpoint() string {
	for _, flag := range b.flags {
		if url, ok := strings.CutPrefix(flag, "--s3-endpoint="); ok {
			return url
		}
	}
	return ""
}

func s3Flags(t testing.TB, url string) []string {
	t.Helper()
	return []string{"--store=s3://backups", "--s3-endpoint=" + url, "--s3-path-style", "--credentials=" + secret(t, accessKey, secretKey)}
}

func secret(t testing.TB, id, key string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, snapshot.CredentialS3KeyID), id)
	write(t, filepath.Join(dir, snapshot.CredentialS3Key), key+"\n")
	return dir
}

// outcome of a run of cmd/backup.
type outcome struct {
	code   int
	result snapshot.Result
	stdout string
	stderr string
	// rss is the most memory that it had, and all the most that it had together with etcd's
	// programs that it ran, in KiB.
	rss, all int64
}

const clusterUID = "5e1f-c1"

// command is cmd/backup with the flags that every test needs.
func (b bucket) command(t testing.TB, termination, operation string, flags ...string) *exec.Cmd {
	t.Helper()
	args := append([]string{operation, "--prefix=team/a", "--progress-listen=", "--pause=50ms", "--termination-log=" + termination}, b.flags...)
	if operation != "list" || b.uid != "" {
		args = append(args, "--cluster-uid="+cmp.Or(b.uid, clusterUID))
	}
	command := exec.Command(backupBinary, append(args, flags...)...)
	command.Env = append(append(os.Environ(), "AWS_EC2_METADATA_DISABLED=true"), b.environment...)
	return command
}

func (b bucket) run(t testing.TB, operation string, flags ...string) outcome {
	t.Helper()
	termination := filepath.Join(t.TempDir(), "termination")
	command := b.command(t, termination, operation, flags...)
	var stdout, stderr strings.Builder
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	highWater := watchMemory(command.Process.Pid)
	_ = command.Wait()
	o := outcome{code: command.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
	o.rss, o.all = highWater()
	for _, text := range []string{o.stdout, o.stderr} {
		if strings.Contains(text, secretKey) {
			t.Errorf("a secret was printed: %s", text)
		}
	}
	content, err := os.ReadFile(termination)
	if err != nil {
		if operation != "list" {
			t.Fatalf("no termination message: %v\n%s", err, o.stderr)
		}
		return o
	}
	o.result, err = snapshot.ParseResult(string(content))
	if err != nil {
		t.Fatalf("termination message %q: %v", content, err)
	}
	return o
}

// watchMemory reads the high-water mark of a process until its end, which the function
// returned waits for, and what its children have beside it, in KiB. The kernel's ru_maxrss
// would not do: it begins with what the process that forked it had, which is this test with
// all that it filled etcd with.
func watchMemory(pid int) func() (own, all int64) {
	var own, all int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			most, running := memory(pid, "VmHWM:")
			if !running {
				return
			}
			own = max(own, most)
			together, _ := memory(pid, "VmRSS:")
			for _, child := range children(pid) {
				its, _ := memory(child, "VmRSS:")
				together += its
			}
			all = max(all, together)
			time.Sleep(10 * time.Millisecond)
		}
	}()
	return func() (int64, int64) { <-done; return own, max(own, all) }
}

// memory is a figure of a process, in KiB. One that is gone, or a zombie, has none.
func memory(pid int, figure string) (kib int64, running bool) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, found := strings.Cut(string(status), figure)
	if err != nil || !found {
		return 0, false
	}
	_, err = fmt.Sscan(rest, &kib)
	return kib, err == nil
}

// children of a process, whichever of its threads made them.
func children(pid int) (all []int) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil
	}
	for _, list := range lists {
		content, _ := os.ReadFile(list) // the thread may have ended
		for field := range strings.FieldsSeq(string(content)) {
			if child, err := strconv.Atoi(field); err == nil {
				all = append(all, child)
			}
		}
	}
	return all
}

func (o outcome) mustSucceed(t testing.TB) outcome {
	t.Helper()
	if o.code != snapshot.ExitSucceeded || o.result.Outcome != snapshot.OutcomeSucceeded {
		t.Fatalf("code %d, %s: %s\n%s", o.code, o.result.Reason, o.result.Message, o.stderr)
	}
	return o
}

func (o outcome) mustFail(t testing.TB, reason snapshot.Reason) outcome {
	t.Helper()
	code := snapshot.ExitFailed
	if o.result.Permanent() {
		code = snapshot.ExitPermanent
	}
	if o.code != code || o.result.Reason != reason || o.result.Outcome != snapshot.OutcomeFailed {
		t.Fatalf("code %d, %s: %s; want code %d, %s\n%s", o.code, o.result.Reason, o.result.Message, code, reason, o.stderr)
	}
	if parts := strings.Split(o.result.Message, " — "); len(parts) < 3 {
		t.Errorf("the message has %d parts instead of what is wrong, why it matters and what to do: %s", len(parts), o.result.Message)
	}
	return o
}

// save takes a backup of e.
func (b bucket) save(t testing.TB, e *etcd, flags ...string) outcome {
	t.Helper()
	return b.run(t, "save", append(saveFlags(t, e), flags...)...)
}

func saveFlags(t testing.TB, e *etcd) []string {
	t.Helper()
	return []string{
		"--name=nightly", "--cluster-namespace=ns", "--cluster-name=c", "--cluster-id=" + e.clusterID(t), "--endpoints=" + e.clientURL,
		"--etcd-ca=" + e.pair.certFile, "--etcd-cert=" + e.pair.certFile, "--etcd-key=" + e.pair.keyFile,
	}
}

func (b bucket) drill(t testing.TB, version string, flags ...string) outcome {
	t.Helper()
	return b.run(t, "drill", append([]string{"--etcd=" + tool(t, version, "etcd"), "--etcdutl=" + tool(t, version, "etcdutl"), "--work-dir=" + t.TempDir()}, flags...)...)
}

// list returns the backups that are there.
func (b bucket) list(t testing.TB) []snapshot.Backup {
	t.Helper()
	o := b.run(t, "list", "--output=json")
	if o.code != 0 {
		t.Fatalf("listing: %s", o.stderr)
	}
	var backups []snapshot.Backup
	if err := json.NewDecoder(strings.NewReader(o.stdout)).Decode(&backups); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return backups
}

// object is the file of an object.
func (b bucket) object(id, name string) string {
	return filepath.Join(b.dir, "team", "a", clusterUID, id, name)
}
