package member

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/member"
)

// change repeats a membership change until it is accepted: a member that has just
// started or lost a peer refuses for a while.
func (n *node) change(what string, call func(context.Context) error) {
	n.c.t.Helper()
	var err error
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err = call(ctx)
		cancel()
		if err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	n.c.t.Fatalf("%s: %v", what, err)
}

func addLearner(c *cluster, n, through *node) (id uint64) {
	c.t.Helper()
	through.change("adding learner "+n.name, func(ctx context.Context) error {
		response, err := through.etcd.MemberAddAsLearner(ctx, []string{n.peerURL()})
		if err == nil {
			id = response.Member.ID
		}
		return err
	})
	return id
}

func removeMember(c *cluster, n, through *node) {
	c.t.Helper()
	through.change("removing "+n.name, func(ctx context.Context) error {
		list, err := through.etcd.MemberList(ctx)
		if err != nil {
			return err
		}
		for _, m := range list.Members {
			if m.PeerURLs[0] == n.peerURL() {
				_, err := through.etcd.MemberRemove(ctx, m.ID)
				return err
			}
		}
		return nil
	})
}

// liveList is the member list for a joining member: those that etcd names, and its
// own name for the entry that has none yet.
func liveList(c *cluster, joining, through *node) (list string) {
	c.t.Helper()
	through.change("listing members", func(ctx context.Context) error {
		response, err := through.etcd.MemberList(ctx)
		if err != nil {
			return err
		}
		var parts []string
		for _, m := range response.Members {
			name := m.Name
			if m.PeerURLs[0] == joining.peerURL() {
				name = joining.name
			}
			parts = append(parts, name+"="+m.PeerURLs[0])
		}
		list = strings.Join(parts, ",")
		return nil
	})
	return list
}

// join takes a held member through MemberAdd, release and promotion.
func join(c *cluster, n, through *node) {
	c.t.Helper()
	eventually(c.t, n.name+" to be held", func() bool { code, body := get(n.health, "/livez"); return code == 200 && body == "held" })
	id := addLearner(c, n, through)
	n.order(liveList(c, n, through), member.ClusterStateExisting, member.AnnotationMayBeEmpty, "true",
		member.AnnotationHold, "true", member.AnnotationRelease, fmt.Sprintf("%x", id))
	promote(c, n, through, id)
}

// promote makes the learner a voter as soon as it has caught up.
func promote(c *cluster, n, through *node, id uint64) {
	c.t.Helper()
	through.change("promoting "+n.name, func(ctx context.Context) error {
		n.restartIfEnded()
		_, err := through.etcd.MemberPromote(ctx, id)
		return err
	})
	n.awaitReady()
}

func TestAHeldLearnerJoinsWhenItIsReleased(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		c := newCluster(t, version, guarded, 1)
		m0 := c.members[0]
		c.found(m0)
		m0.put("k/", acknowledged)
		m1 := c.grow()
		m1.order(c.initialCluster(m1), member.ClusterStateExisting, member.AnnotationMayBeEmpty, "true", member.AnnotationHold, "true")
		m1.start()
		eventually(t, "m1 to be held", func() bool { code, body := get(m1.health, "/livez"); return code == 200 && body == "held" })
		if code, body := get(m1.health, "/readyz"); code != http.StatusServiceUnavailable {
			t.Errorf("held: /readyz %d %s, want 503", code, body)
		}
		if code, _ := get(m1.metrics, "/livez"); code != 0 {
			t.Error("etcd runs while held")
		}
		id := addLearner(c, m1, m0)
		m1.order(liveList(c, m1, m0), member.ClusterStateExisting, member.AnnotationMayBeEmpty, "true",
			member.AnnotationHold, "true", member.AnnotationRelease, fmt.Sprintf("%x", id))
		eventually(t, "the learner to be alive", func() bool { code, body := get(m1.health, "/livez"); return code == 200 && body == "ok" })
		if code, body := get(m1.health, "/readyz"); code != http.StatusServiceUnavailable {
			t.Errorf("learner: /readyz %d %s, want etcd's 503", code, body)
		}
		promote(c, m1, m0, id)
		if got := m1.count("k/"); got != acknowledged {
			t.Errorf("%d of %d acknowledged writes through the new member", got, acknowledged)
		}
	})
}

func TestALearnerBeforeItsMemberAddFailsWithoutTheGuard(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		c := newCluster(t, version, bare, 2)
		m0, m1 := c.members[0], c.members[1]
		c.found(m0)
		m1.order(c.initialCluster(m0, m1), member.ClusterStateExisting)
		m1.start()
		if code := m1.process.exitCode(t); code != 1 {
			t.Errorf("exit code %d, want 1", code)
		}
		if logs, err := filepath.Glob(filepath.Join(m1.data(), "member", "wal", "*.wal")); err != nil || len(logs) != 0 {
			t.Errorf("log files %v, %v, want none", logs, err)
		}
		if _, err := os.Stat(filepath.Join(m1.data(), "member", "snap", "db")); err != nil {
			t.Errorf("database: %v, want the leftover of the failed boot", err)
		}
	})
}

// The leftovers of a failed first boot need nobody's help.
func TestALearnerBeforeItsMemberAddIsStartedAgainUntilItMayJoin(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		c := newCluster(t, version, guarded, 2)
		m0, m1 := c.members[0], c.members[1]
		c.found(m0)
		m0.put("k/", acknowledged)
		m1.order(c.initialCluster(m0, m1), member.ClusterStateExisting, member.AnnotationMayBeEmpty, "true")
		m1.start()
		eventually(t, "two first boots to fail", func() bool {
			return strings.Count(readString(m1.logFile()), "The first boot failed, trying again") >= 2
		})
		id := addLearner(c, m1, m0)
		promote(c, m1, m0, id)
		if got := m1.count("k/"); got != acknowledged {
			t.Errorf("%d of %d acknowledged writes through the new member", got, acknowledged)
		}
		if _, err := os.Stat(filepath.Join(m1.volume(), "discarded-1")); err != nil {
			t.Errorf("leftovers: %v, want them moved aside", err)
		}
	})
}

// Founders start together, in any order and with peers that are late.
func TestFoundersWithALatePeer(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		c := newCluster(t, version, guarded, 3)
		for _, n := range c.members {
			n.order(c.initialCluster(c.members...), member.ClusterStateNew, member.AnnotationMayBeEmpty, "true")
		}
		m0, m1, m2 := c.members[0], c.members[1], c.members[2]
		m0.start()
		eventually(t, "m0 to have a log", func() bool {
			_, err := os.Stat(filepath.Join(m0.pod(), "boot", member.BootMarkFile))
			return err == nil
		})
		// It has voted for itself by now. Killed and started again, its
		// annotations still those of a first boot, it goes on with its log.
		m0.kill()
		m0.start()
		m1.start()
		m0.awaitReady()
		m0.put("k/", acknowledged)
		m2.start()
		m2.awaitReady()
		if got := m2.count("k/"); got != acknowledged {
			t.Errorf("%d of %d acknowledged writes through the late peer", got, acknowledged)
		}
	})
}

func TestAMemberSurvivesTheDeathOfItsGuard(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		c := newCluster(t, version, guarded, 1)
		m0 := c.members[0]
		c.found(m0)
		for round := range 3 {
			m0.put(fmt.Sprintf("k/%d/", round), acknowledged)
			m0.kill()
			m0.start()
			m0.awaitReady()
			if got, want := m0.count("k/"), int64(acknowledged*(round+1)); got != want {
				t.Errorf("%d of %d acknowledged writes", got, want)
			}
		}
		must(t, m0.process.command.Process.Signal(syscall.SIGTERM))
		if code := m0.process.exitCode(t); code != 128+int(syscall.SIGTERM) {
			t.Errorf("exit code after SIGTERM %d, want 143", code)
		}
		if message := m0.message(); message != "" {
			t.Errorf("termination message %q, want none", message)
		}
	})
}
