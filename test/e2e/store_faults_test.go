package e2e

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/test/soak/testbed"
)

// fault breaks an exchange with the store, or passes it on.
type fault func(w http.ResponseWriter, r *http.Request, next http.Handler)

// faulty is a bucket that is reached through a proxy, which breaks what it is told to break.
type faulty struct {
	store, dir string
	now        atomic.Pointer[fault]
}

func faultyBucket(ctx context.Context, ns string) *faulty {
	GinkgoHelper()
	endpoint, dir, _ := serveS3(ctx, ns)
	listener, err := net.Listen("tcp", net.JoinHostPort(testbed.Gateway, "0"))
	Expect(err).NotTo(HaveOccurred())
	target, err := url.Parse(endpoint)
	Expect(err).NotTo(HaveOccurred())
	f := &faulty{store: storeAt("http://" + listener.Addr().String()), dir: dir}
	f.whole()
	// The host is part of the signature, and stays what the client has sent.
	forward := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		(*f.now.Load())(w, r, forward)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	DeferCleanup(func() { _ = server.Close(); <-done })
	return f
}

// whole passes everything on.
func (f *faulty) whole() {
	f.breaks(func(*http.Request) bool { return false }, nil)
}

// breaks what fits, from here on.
func (f *faulty) breaks(fits func(*http.Request) bool, broken fault) {
	var now fault = func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if fits(r) {
			broken(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	}
	f.now.Store(&now)
}

// holds the objects of a backup.
func (f *faulty) holds(b *v1alpha1.EtcdBackup) (objects []string) {
	GinkgoHelper()
	objects, err := filepath.Glob(filepath.Join(f.dir, "e2e", b.Status.ClusterUID, b.Status.ID, "*"))
	Expect(err).NotTo(HaveOccurred())
	return objects
}

func ofSnapshot(method string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return r.Method == method && strings.HasSuffix(r.URL.Path, "/"+snapshot.SnapshotObject)
	}
}

// refuses what is sent, when all of it has come: before, the client might not see the answer.
func refuses(code int, name string) fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(code)
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>made by the test</Message></Error>", name)
	}
}

// flips a bit of what the store gives.
func flips(w http.ResponseWriter, r *http.Request, next http.Handler) {
	given := httptest.NewRecorder()
	next.ServeHTTP(given, r)
	body := given.Body.Bytes()
	if len(body) > 0 {
		body[len(body)/2] ^= 1
	}
	maps.Copy(w.Header(), given.Header())
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(given.Code)
	_, _ = w.Write(body)
}

// trickles takes a kilobyte a second.
func trickles(w http.ResponseWriter, r *http.Request, next http.Handler) {
	r.Body = io.NopCloser(&trickle{from: r.Body, until: r.Context()})
	next.ServeHTTP(w, r)
}

type trickle struct {
	from  io.Reader
	until context.Context
}

func (t *trickle) Read(p []byte) (int, error) {
	select {
	case <-t.until.Done():
		return 0, t.until.Err()
	case <-time.After(time.Second):
		return t.from.Read(p[:min(len(p), 1<<10)])
	}
}

// hasFailed waits until a backup is given up, and returns it.
func hasFailed(ctx context.Context, key client.ObjectKey, reason snapshot.Reason) *v1alpha1.EtcdBackup {
	GinkgoHelper()
	b := comesTo(ctx, key, v1alpha1.ConditionStalled, string(reason))
	Expect(meta.IsStatusConditionTrue(b.Status.Conditions, v1alpha1.ConditionVerified)).To(BeFalse())
	return b
}

var _ = Describe("Backups in a store that fails", Label(local, deep), func() {
	It("are verified when they can be restored, and never else; and the cluster serves all the time", func(ctx SpecContext) {
		ns := newNamespace(ctx)
		f := faultyBucket(ctx, ns)
		c := found(ctx, ns, "source", `{size: 3, storage: {size: 1Gi}, etcd: {quotaBackendBytes: 256Mi}}`)
		noise := make([]byte, 50_000)
		for i := range 6 {
			_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(noise)
			c.etcdctl(ctx, c.member(i%3), "put", fmt.Sprint("noise/", i), hex.EncodeToString(noise))
		}
		kept := c.etcdctl(ctx, c.member(0), "get", "noise/", "--prefix")
		l := c.startLoad(ctx)

		By("503 for one exchange in three")
		var asked atomic.Int64
		f.breaks(func(*http.Request) bool { return asked.Add(1)%3 == 0 }, refuses(http.StatusServiceUnavailable, "SlowDown"))
		flaky := comesTo(ctx, c.backsUp(ctx, "flaky", f.store, "deletionPolicy: Delete"), v1alpha1.ConditionVerified, v1alpha1.ReasonVerified)

		By("a bit that flips whenever it is read back")
		f.breaks(ofSnapshot(http.MethodGet), flips)
		flipped := hasFailed(ctx, c.backsUp(ctx, "flipped", f.store), snapshot.ReasonCorrupt)
		Expect(meta.IsStatusConditionTrue(flipped.Status.Conditions, v1alpha1.ConditionComplete)).To(BeFalse())
		Expect(filepath.Glob(filepath.Join(f.dir, "e2e", "*", "*-flipped", snapshot.ManifestObject))).To(BeEmpty(), "what is listed can be restored")

		By("a store that takes nothing, by a right that is not there")
		f.breaks(ofSnapshot(http.MethodPut), refuses(http.StatusForbidden, "AccessDenied"))
		hasFailed(ctx, c.backsUp(ctx, "denied", f.store), snapshot.ReasonAccessDenied)

		By("a kilobyte a second, until the time is over")
		f.breaks(ofSnapshot(http.MethodPut), trickles)
		slow := comesTo(ctx, c.backsUp(ctx, "slow", f.store, "timeout: 1m"), v1alpha1.ConditionStalled, v1alpha1.ReasonTimedOut)
		Expect(meta.IsStatusConditionTrue(slow.Status.Conditions, v1alpha1.ConditionComplete)).To(BeFalse())
		f.whole()
		holds(ctx, l)

		By("one that is verified, and is tried out again while bits flip")
		f.breaks(ofSnapshot(http.MethodGet), flips)
		drillAgain(ctx, ns, flaky.Name)
		hasFailed(ctx, client.ObjectKeyFromObject(flaky), snapshot.ReasonCorrupt)
		f.whole()

		By("a new one is as good as ever")
		comesTo(ctx, c.backsUp(ctx, "whole", f.store), v1alpha1.ConditionVerified, v1alpha1.ReasonVerified)
		r := found(ctx, ns, "restored", `{size: 1, storage: {size: 1Gi}, etcd: {quotaBackendBytes: 256Mi}, restoreFrom: {backupName: whole}}`)
		Expect(r.etcdctl(ctx, r.member(0), "get", "noise/", "--prefix")).To(Equal(kept))

		By("what may not be deleted is said, and deleted when it may")
		f.breaks(func(r *http.Request) bool {
			return r.Method == http.MethodDelete || r.Method == http.MethodPost && r.URL.Query().Has("delete")
		}, refuses(http.StatusForbidden, "AccessDenied"))
		Expect(kube.Delete(ctx, flaky.DeepCopy())).To(Succeed())
		Eventually(ctx, func(g Gomega) {
			b := &v1alpha1.EtcdBackup{}
			g.Expect(kube.Get(ctx, client.ObjectKeyFromObject(flaky), b)).To(Succeed())
			told := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionReady)
			g.Expect(told).NotTo(BeNil())
			g.Expect(told.Message).To(ContainSubstring("AccessDenied"))
		}).Should(Succeed())
		Expect(f.holds(flaky)).NotTo(BeEmpty())
		f.whole()
		Eventually(ctx, func() error {
			return kube.Get(ctx, client.ObjectKeyFromObject(flaky), &v1alpha1.EtcdBackup{})
		}).ShouldNot(Succeed())
		Expect(f.holds(flaky)).To(BeEmpty())
		Expect(os.ReadDir(filepath.Join(f.dir, "e2e"))).NotTo(BeEmpty(), "others stay")
	}, NodeTimeout(4*patience))
})
