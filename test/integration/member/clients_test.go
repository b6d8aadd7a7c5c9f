package member

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/member"
)

// outrun writes so much that n's log no longer reaches back to its beginning: who joins
// then gets a snapshot. Etcd keeps 5000 entries for those who are slow.
func (n *node) outrun() {
	n.c.t.Helper()
	const writers, each = 64, 150
	var (
		all      sync.WaitGroup
		failed   = make(chan error, writers)
		deadline = time.Now().Add(5 * patience)
	)
	for w := range writers {
		all.Go(func() {
			// The log's length alone matters: what a slow disk left without an answer is
			// written again.
			for i := 0; i < each; {
				err := n.tryPut(fmt.Sprintf("outrun/%d/%d", w, i))
				if err == nil {
					i++
				} else if time.Now().After(deadline) {
					failed <- err
					return
				}
			}
		})
	}
	all.Wait()
	if len(failed) > 0 {
		n.c.t.Fatalf("%d writers did not get through: %v", len(failed), <-failed)
	}
}

// A member that joins by a snapshot waits for its own first proposal, which the snapshot
// went past, and serves no client for seconds after its /readyz is good: a Service that
// believed it would have clients hang.
func TestAReadyMemberServesClients(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		c := newCluster(t, version, guarded, 1)
		m0 := c.members[0]
		m0.flags = []string{"--snapshot-count=100"}
		c.found(m0)
		m0.outrun()
		m1 := c.grow()
		m1.order(c.initialCluster(m1), member.ClusterStateExisting, member.AnnotationMayBeEmpty, "true", member.AnnotationHold, "true")
		m1.start()
		began := time.Now()
		join(c, m1, m0)
		said := time.Since(began)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		asked := time.Now()
		if _, err := m1.etcd.Get(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		waited := time.Since(asked)
		t.Logf("ready after %v, its first client waited for %v", said.Round(time.Millisecond), waited.Round(time.Millisecond))
		// Whom it does not serve yet waits for nearly six seconds.
		if waited > 4*time.Second {
			t.Errorf("a member that is ready left its client without an answer for %v", waited)
		}
		if _, metrics := get(m1.metrics, "/metrics"); !strings.Contains(metrics, "\netcd_network_snapshot_receive_success{") {
			t.Error("it joined without a snapshot, and so has shown nothing")
		}
		if code, body := get(m1.health, "/readyz"); code != http.StatusOK {
			t.Errorf("/readyz %d %s", code, body)
		}
	})
}
