package v3client_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/quorate/quorate/internal/etcd"
	"github.com/quorate/quorate/internal/etcd/v3client"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/test/integration/etcdbinary"
)

func TestEveryVersionWithTLS(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, version, 3, mutualTLS)
			r.startAll(t)
			checkAnswers(t, r)
			checkProposalCostsNoRevision(t, r)
			checkStrangersAreRefused(t, r)
			checkRenewal(t, r)
			checkMembershipRefusals(t, r)
			checkMoveLeader(t, r)
			checkAuthentication(t, r)
			checkQuorumLoss(t, r)
		})
	}
}

func checkAnswers(t *testing.T, r *rig) {
	t.Helper()
	ids := map[uint64]bool{}
	clusterIDs := map[uint64]bool{}
	for _, m := range r.members {
		s, err := r.dial(t, m).Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.Version != r.version || s.Leader == 0 || s.Term == 0 || s.Index == 0 || s.Applied == 0 || s.DBSize == 0 || s.Learner || len(s.Errors) > 0 {
			t.Errorf("status of %s: %+v", m.name, s)
		}
		list, err := r.dial(t, m).Members(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if list.MemberID != s.MemberID || list.ClusterID != s.ClusterID || list.Term != s.Term || len(list.Members) != 3 {
			t.Errorf("members through %s: %+v, status %+v", m.name, list, s)
		}
		for _, listed := range list.Members {
			if listed.ID == s.MemberID && (listed.Name != m.name || listed.PeerURLs[0] != r.peerURL(m) || !listed.Started()) {
				t.Errorf("%s is listed as %+v", m.name, listed)
			}
		}
		ids[s.MemberID], clusterIDs[s.ClusterID] = true, true
		if err := r.dial(t, m).Read(t.Context()); err != nil {
			t.Errorf("read: %v", err)
		}
		if alarms, err := r.dial(t, m).Alarms(t.Context()); err != nil || len(alarms) > 0 {
			t.Errorf("alarms %v: %v", alarms, err)
		}
	}
	if len(ids) != 3 || len(clusterIDs) != 1 {
		t.Errorf("%d member IDs, %d cluster IDs", len(ids), len(clusterIDs))
	}
}

// etcdctl runs the real one as the operator.
func (r *rig) etcdctl(t *testing.T, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	s := r.secrets[pki.OperatorSecret(cluster)]
	for _, key := range []string{pki.KeyCA, pki.KeyCert, pki.KeyKey} {
		if err := os.WriteFile(filepath.Join(dir, key), s[key], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctl := strings.TrimSuffix(etcdbinary.Find(t, r.version), "etcd") + "etcdctl"
	out, err := r.command(t, ctl, append([]string{
		"--endpoints=https://" + serverName(r.members[0].name) + ":2379", "--command-timeout=10s",
		"--cacert=" + filepath.Join(dir, pki.KeyCA), "--cert=" + filepath.Join(dir, pki.KeyCert), "--key=" + filepath.Join(dir, pki.KeyKey),
	}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("etcdctl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func checkProposalCostsNoRevision(t *testing.T, r *rig) {
	t.Helper()
	revision := func() string {
		_, after, _ := strings.Cut(r.etcdctl(t, "get", "nothing", "-w", "json"), `"revision":`)
		number, _, _ := strings.Cut(after, ",")
		return number
	}
	before := revision()
	s0, err := r.dial(t, r.members[0]).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range r.members {
		if err := r.dial(t, m).Propose(t.Context()); err != nil {
			t.Errorf("propose: %v", err)
		}
	}
	if after := revision(); after != before || before == "" {
		t.Errorf("revision %q before, %q after", before, after)
	}
	s1, err := r.dial(t, r.members[0]).Status(t.Context())
	if err != nil || s1.Index < s0.Index+6 {
		t.Errorf("three grants and revocations took raft's index from %d to %d: %v", s0.Index, s1.Index, err)
	}
	if leases := r.etcdctl(t, "lease", "list"); !strings.Contains(leases, "found 0 leases") {
		t.Errorf("leases are left: %s", leases)
	}
}

func checkStrangersAreRefused(t *testing.T, r *rig) {
	t.Helper()
	own := r.operator(t)
	strange := pki.Plan(time.Now(), pki.Inputs{Cluster: cluster, Namespace: namespace, Authorities: pki.AuthorityMayBeCreated})
	stranger := map[string]map[string][]byte{}
	for _, s := range strange.Create {
		stranger[s.Name] = s.Data
	}
	other, err := pki.OperatorCredentials(stranger[pki.OperatorSecret(cluster)])
	if err != nil {
		t.Fatal(err)
	}
	application, err := pki.OperatorCredentials(r.secrets[pki.ClientSecret(cluster)])
	if err != nil {
		t.Fatal(err)
	}
	to := r.endpoint(r.members[0])
	cases := map[string]struct {
		to      etcd.Endpoint
		as      etcd.Credentials
		refused bool
	}{
		"an application's certificate":    {to, application, false},
		"another authority's certificate": {to, etcd.Credentials{CA: own.CA, Certificate: other.Certificate, Key: other.Key}, true},
		"a server of another authority":   {to, etcd.Credentials{CA: other.CA, Certificate: own.Certificate, Key: own.Key}, true},
		"another member's name":           {etcd.Endpoint{Address: to.Address, ServerName: serverName("c-0001")}, own, true},
		"plaintext":                       {to, etcd.Credentials{}, true},
	}
	for name, tc := range cases {
		pool := v3client.NewPool()
		c, err := pool.Dial(group, tc.to, tc.as)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Status(t.Context()); errors.Is(err, etcd.ErrUnreachable) != tc.refused || (err != nil) != tc.refused {
			t.Errorf("%s: refused is wanted %v, got %v", name, tc.refused, err)
		}
		pool.Close()
	}
}

// checkRenewal lets an hour of the operator's clock pass: etcd serves the new
// leaf to new connections, the pool uses its own, and nobody is restarted.
func checkRenewal(t *testing.T, r *rig) {
	t.Helper()
	m := r.members[1]
	former, err := pki.OperatorCredentials(r.secrets[pki.OperatorSecret(cluster)])
	if err != nil {
		t.Fatal(err)
	}
	serial := servedSerial(t, r, m)
	for _, s := range []string{pki.OperatorSecret(cluster), pki.MemberSecret(m.name)} {
		delete(r.secrets, s)
	}
	if result := r.issue(t, time.Now(), pki.AuthorityExpected); len(result.Create) != 2 || len(result.Renew) != 0 {
		t.Fatalf("issued %d and %d Secrets", len(result.Create), len(result.Renew))
	}
	if bytes.Equal(r.operator(t).Certificate, former.Certificate) {
		t.Fatal("the operator's certificate was not renewed")
	}
	if now := servedSerial(t, r, m); now == serial {
		t.Errorf("%s still serves its former leaf", m.name)
	}
	s, err := r.dial(t, m).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.dial(t, m).Members(t.Context()); err != nil || s.Leader == 0 {
		t.Errorf("after the renewal: leader %x, %v", s.Leader, err)
	}
}

func servedSerial(t *testing.T, r *rig, m *process) string {
	t.Helper()
	as := r.operator(t)
	pair, err := tls.X509KeyPair(as.Certificate, as.Key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	block, _ := pem.Decode(as.CA)
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(ca)
	c, err := tls.Dial("tcp", m.client, &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, ServerName: serverName(m.name)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

func checkMembershipRefusals(t *testing.T, r *rig) {
	t.Helper()
	leader := r.dial(t, r.members[r.leader(t)])
	first, second := "https://"+serverName("c-0003")+":1", "https://"+serverName("c-0004")+":1"
	var added etcd.Member
	// That one is refused right after founding is tooEarly's, which founds anew where the
	// machine was too slow to see it.
	eventually(t, 15*time.Second, "a learner is taken", func() (err error) {
		added, err = leader.AddLearner(t.Context(), first)
		return err
	})
	if !added.Learner || added.ID == 0 || added.Started() || added.PeerURLs[0] != first {
		t.Errorf("added %+v", added)
	}
	voter, err := leader.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "the same URL again", etcd.ErrPeerURLExists, second3(leader.AddLearner(t.Context(), first)))
	expect(t, "a second learner", etcd.ErrTooManyLearners, second3(leader.AddLearner(t.Context(), second)))
	expect(t, "promoting one that never ran", etcd.ErrLearnerNotReady, leader.Promote(t.Context(), added.ID))
	expect(t, "promoting a voter", etcd.ErrNotLearner, leader.Promote(t.Context(), voter.MemberID))
	expect(t, "promoting nobody", etcd.ErrMemberNotFound, leader.Promote(t.Context(), 42))
	expect(t, "removing nobody", etcd.ErrMemberNotFound, leader.Remove(t.Context(), 42))
	if err := leader.Remove(t.Context(), added.ID); err != nil {
		t.Errorf("removing a learner: %v", err)
	}
	expect(t, "removing it twice", etcd.ErrMemberNotFound, leader.Remove(t.Context(), added.ID))
}

func second3(_ etcd.Member, err error) error { return err }

func expect(t *testing.T, what string, want, got error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
	if errors.Is(got, etcd.ErrOutcomeUnknown) {
		t.Errorf("%s: a refusal is no unknown outcome: %v", what, got)
	}
}

func checkMoveLeader(t *testing.T, r *rig) {
	t.Helper()
	from := r.leader(t)
	to := (from + 1) % 3
	target, err := r.dial(t, r.members[to]).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "moving from a follower", etcd.ErrNotLeader, r.dial(t, r.members[to]).MoveLeader(t.Context(), target.MemberID))
	if err := r.dial(t, r.members[from]).MoveLeader(t.Context(), target.MemberID); err != nil {
		t.Errorf("moving the leadership: %v", err)
	}
	if now := r.leader(t); now != to {
		t.Errorf("%s leads, want %s", r.members[now].name, r.members[to].name)
	}
}

// checkAuthentication turns authentication on: the operator is root, an
// application is nobody.
func checkAuthentication(t *testing.T, r *rig) {
	t.Helper()
	for _, args := range [][]string{
		{"role", "add", "root"}, {"user", "add", "root", "--no-password"}, {"user", "grant-role", "root", "root"}, {"auth", "enable"},
	} {
		r.etcdctl(t, args...)
	}
	c := r.dial(t, r.members[0])
	if err := errors.Join(c.Read(t.Context()), c.Propose(t.Context())); err != nil {
		t.Errorf("root probes: %v", err)
	}
	if _, err := c.Alarms(t.Context()); err != nil {
		t.Errorf("root lists alarms: %v", err)
	}
	if _, err := c.Members(t.Context()); err != nil {
		t.Errorf("root lists members: %v", err)
	}
	expect(t, "root removes nobody", etcd.ErrMemberNotFound, c.Remove(t.Context(), 42))
	application, err := pki.OperatorCredentials(r.secrets[pki.ClientSecret(cluster)])
	if err != nil {
		t.Fatal(err)
	}
	pool := v3client.NewPool()
	defer pool.Close()
	other, err := pool.Dial(group, r.endpoint(r.members[0]), application)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "an application removes a member", etcd.ErrPermission, other.Remove(t.Context(), 42))
	expect(t, "an application reads", etcd.ErrPermission, other.Read(t.Context()))
}

func checkQuorumLoss(t *testing.T, r *rig) {
	t.Helper()
	survivor := r.dial(t, r.members[2])
	healthy, err := survivor.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.members[0].stop()
	eventually(t, 10*time.Second, "two of three serve", func() error { return survivor.Propose(t.Context()) })
	expect(t, "adding with one down", etcd.ErrUnhealthyCluster, second3(survivor.AddLearner(t.Context(), "https://x:1")))
	expect(t, "removing a healthy voter with one down", etcd.ErrUnhealthyCluster, survivor.Remove(t.Context(), healthy.MemberID))
	r.members[1].stop()
	calls := map[string]func(context.Context) error{
		"Read":    survivor.Read,
		"Propose": survivor.Propose,
		"Members": func(ctx context.Context) error { _, err := survivor.Members(ctx); return err },
	}
	var running sync.WaitGroup
	for name, call := range calls {
		running.Go(func() {
			began := time.Now()
			err := call(t.Context())
			took := time.Since(began)
			if !errors.Is(err, etcd.ErrNoLeader) || took > 30*time.Second {
				t.Errorf("%s without quorum after %v: %v", name, took, err)
			}
			// Etcd gives up after 7 s and the call before that, as its error then says.
			if took > 5*time.Second && !strings.Contains(err.Error(), "no answer within ") {
				t.Errorf("%s has waited for etcd for %v: %v", name, took, err)
			}
			if errors.Is(err, etcd.ErrOutcomeUnknown) != (name == "Propose") {
				t.Errorf("%s: outcome unknown? %v", name, err)
			}
		})
	}
	running.Wait()
	if s, err := survivor.Status(t.Context()); err != nil || s.MemberID != healthy.MemberID {
		t.Errorf("status without quorum: %+v %v", s, err)
	}
	if _, err := r.dial(t, r.members[1]).Status(t.Context()); !errors.Is(err, etcd.ErrUnreachable) {
		t.Errorf("status of a dead member: %v", err)
	}
	r.start(t, r.members[1])
	began := time.Now()
	eventually(t, 15*time.Second, "the restarted member is seen", func() error {
		_, err := r.dial(t, r.members[1]).Status(t.Context())
		return err
	})
	eventually(t, 15*time.Second, "quorum is back", func() error { return survivor.Propose(t.Context()) })
	t.Logf("%s: quorum was back %v after the restart", r.version, time.Since(began).Round(time.Millisecond))
}

func TestNoSpaceAndTheLastVoter(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, version, 1, plaintext, "--quota-backend-bytes=1048576")
			r.startAll(t)
			c := r.dial(t, r.members[0])
			s, err := c.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			expect(t, "removing the last voter", etcd.ErrNotStarted, c.Remove(t.Context(), s.MemberID))
			raw, err := grpc.NewClient("passthrough:///"+r.members[0].client, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = raw.Close() })
			// One value as large as the quota raises the alarm.
			if _, err = pb.NewKVClient(raw).Put(t.Context(), &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 1<<20)}); err == nil {
				t.Fatal("the quota was not enforced")
			}
			expect(t, "proposing without space", etcd.ErrNoSpace, c.Propose(t.Context()))
			if err := c.Read(t.Context()); err != nil {
				t.Errorf("reading without space: %v", err)
			}
			alarms, err := c.Alarms(t.Context())
			if err != nil || len(alarms) != 1 || alarms[0] != (etcd.Alarm{MemberID: s.MemberID, Kind: etcd.AlarmNoSpace}) {
				t.Errorf("alarms %v: %v", alarms, err)
			}
		})
	}
}

// TestNothingIsLeftOpen runs before the parallel tests go on.
func TestNothingIsLeftOpen(t *testing.T) {
	r := newRig(t, versions[1], 3, mutualTLS)
	r.startAll(t)
	r.pool.Close()
	goroutines, files := settled(t, 0, 0)
	r.pool = v3client.NewPool()
	for range 10 {
		delete(r.secrets, pki.OperatorSecret(cluster))
		r.issue(t, time.Now(), pki.AuthorityExpected)
		for _, m := range r.members {
			if _, err := r.dial(t, m).Status(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.pool.Keep(group)
	g, f := settled(t, goroutines, files)
	if g > goroutines || f > files {
		t.Errorf("%d goroutines and %d files before, %d and %d after", goroutines, files, g, f)
	}
}

// settled counts goroutines and open files, waiting for at most 5 s until they
// are no more than the given.
func settled(t *testing.T, goroutines, files int) (g, f int) {
	t.Helper()
	for range 100 {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		g, f = runtime.NumGoroutine(), len(entries)
		if goroutines > 0 && g <= goroutines && f <= files {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	return g, f
}
