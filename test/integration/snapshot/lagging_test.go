package snapshot

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/test/integration/etcdbinary"
)

// islands are a trio whose members hear of each other through proxies, so that one can be cut
// off from the others while it goes on answering clients.
type islands struct {
	trio

	// linked ends when a member is cut off, by the URL that it gives its peers. That of those
	// who give none ends as soon as anybody is: it may be them.
	linked map[string]context.Context
	cut    map[string]context.CancelFunc
}

func startIslands(t testing.TB, version string) *islands {
	t.Helper()
	c := &islands{linked: map[string]context.Context{}, cut: map[string]context.CancelFunc{}}
	c.linked[""], c.cut[""] = context.WithCancel(t.Context())
	pair := newKeyPair(t)
	var initial, listen []string
	var proxies []*httptest.Server
	for i := range 3 {
		e := newEtcd(t, version, fmt.Sprintf("m-%04d", i))
		proxy := httptest.NewUnstartedServer(nil)
		t.Cleanup(proxy.Close)
		listen, proxies = append(listen, "http://"+e.peer), append(proxies, proxy)
		e.pair, e.peer = pair, proxy.Listener.Addr().String()
		c.linked["http://"+e.peer], c.cut["http://"+e.peer] = context.WithCancel(t.Context())
		c.members, initial = append(c.members, e), append(initial, e.initial())
	}
	for i, e := range c.members {
		proxies[i].Config.Handler = c.before(t, "http://"+e.peer, listen[i])
		proxies[i].Start()
	}
	for i, e := range c.members {
		// Of a flag that is given twice the last one counts.
		flags := append(e.flags(strings.Join(initial, ",")), "--listen-peer-urls="+listen[i], "--data-dir="+filepath.Join(e.dir, "data"))
		e.process = start(t, e.log, exec.Command(etcdbinary.Find(t, version), flags...))
	}
	for _, e := range c.members {
		e.connect(t)
	}
	return c
}

// before is the proxy before a member, which passes on to target what comes from those that are
// linked. What a member is sent may be in the answer to what it asked for once, and lasts.
func (c *islands) before(t testing.TB, member, target string) http.Handler {
	t.Helper()
	parsed, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(parsed) },
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
		ErrorLog:      log.New(io.Discard, "", 0),
		FlushInterval: -1,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, end := context.WithCancel(r.Context())
		defer end()
		for _, side := range []string{member, r.Header.Get("X-PeerURLs")} {
			linked := c.linked[side]
			if linked == nil || linked.Err() != nil {
				reset(w)
				return
			}
			defer context.AfterFunc(linked, end)()
		}
		forward.ServeHTTP(w, r.WithContext(ctx))
	})
}

// cutOff has a member hear nothing of the others any more, and them nothing of it.
func (c *islands) cutOff(i int) {
	c.cut["http://"+c.members[i].peer]()
	c.cut[""]()
}

// known is the latest revision that a member knows by itself.
func (c *islands) known(t testing.TB, i int) int64 {
	t.Helper()
	got, err := c.members[i].client.Get(t.Context(), "x", clientv3.WithSerializable())
	if err != nil {
		t.Fatal(err)
	}
	return got.Header.Revision
}

// save is given the members in this order.
func (c *islands) save(t testing.TB, store bucket, order []int, flags ...string) outcome {
	t.Helper()
	var endpoints []string
	for _, i := range order {
		endpoints = append(endpoints, c.members[i].clientURL)
	}
	return store.save(t, c.members[order[0]], append(flags, "--endpoints="+strings.Join(endpoints, ","))...)
}

// A member that is cut off from the others answers clients with what it had. No backup is taken
// from it, though it is the first that is asked: it does not know what was acknowledged since.
func TestASaveIsNotTakenFromAMemberThatLags(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			c := startIslands(t, version)
			leader := c.leader(t)
			lagging, follower := (leader+1)%3, (leader+2)%3
			c.put(t, "before", leader)
			stale := latest(t, c.members[lagging].client)
			c.cutOff(lagging)
			c.put(t, "after", leader, follower)
			if got := c.known(t, lagging); got != stale {
				t.Fatalf("the member that is cut off is at revision %d, and was at %d", got, stale)
			}
			for name, order := range map[string][]int{
				"all":                    {lagging, follower, leader},
				"no follower but itself": {lagging, leader},
			} {
				t.Run(name, func(t *testing.T) { c.checkLatest(t, order, lagging) })
			}
			t.Run("alone", func(t *testing.T) {
				store := directoryBucket(t)
				c.save(t, store, []int{lagging}, "--attempts=1").mustFail(t, snapshot.ReasonEtcdUnreachable)
				if listed, left := store.list(t), tree(t, store.dir); len(listed) > 0 || len(left) > 0 {
					t.Errorf("listed: %+v; left: %v", listed, left)
				}
			})
			if got, want := c.known(t, lagging), latest(t, c.members[leader].client); got != stale || got >= want {
				t.Errorf("the member that is cut off is at revision %d in the end, was at %d, and the leader is at %d: nothing is shown", got, stale, want)
			}
		})
	}
}

// put writes keys through some of the members in turn.
func (c *islands) put(t testing.TB, name string, through ...int) {
	t.Helper()
	for i := range 20 {
		e := c.members[through[i%len(through)]]
		if _, err := e.client.Put(t.Context(), fmt.Sprintf("%s/%02d", name, i), name); err != nil {
			t.Fatalf("%s, through %s: %v", name, e.name, err)
		}
	}
}

// checkLatest wants a backup of all that was acknowledged, of another member than the one that
// lags.
func (c *islands) checkLatest(t *testing.T, order []int, lagging int) {
	t.Helper()
	store := directoryBucket(t)
	saved := c.save(t, store, order).mustSucceed(t).result.Backup
	content, err := os.ReadFile(store.object(saved.ID, snapshot.ManifestObject))
	if err != nil {
		t.Fatal(err)
	}
	m, err := snapshot.DecodeManifest(content)
	if err != nil {
		t.Fatal(err)
	}
	last := order[len(order)-1]
	want, err := c.members[last].client.Get(t.Context(), "", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		t.Fatal(err)
	}
	if m.Etcd.Revision != want.Header.Revision || m.Etcd.KeyCount != want.Count || m.Etcd.Member == c.members[lagging].name {
		t.Errorf("%d keys at revision %d are saved from %s; want %d at %d, and not from %s, which is at %d",
			m.Etcd.KeyCount, m.Etcd.Revision, m.Etcd.Member, want.Count, want.Header.Revision, c.members[lagging].name, c.known(t, lagging))
	}
	store.drill(t, c.members[last].version, "--backup="+saved.ID).mustSucceed(t)
}
