package v3client_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/quorate/quorate/internal/etcd"
)

// raw is a connection for what the operator itself never does.
func (r *rig) raw(t *testing.T, m *process) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient("passthrough:///"+m.client, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// fill overwrites one key until the database is full.
func fill(t *testing.T, c *grpc.ClientConn) {
	t.Helper()
	kv := pb.NewKVClient(c)
	for range 100 {
		if _, err := kv.Put(t.Context(), &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 1<<20)}); err != nil {
			return
		}
	}
	t.Fatal("the quota was not enforced")
}

// TestAFullDatabaseIsHealed step by step, on real members: what the policy and the cluster
// in memory rest on.
func TestAFullDatabaseIsHealed(t *testing.T) {
	t.Parallel()
	const quota = 24 << 20
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, version, 3, plaintext, "--quota-backend-bytes=25165824")
			r.startAll(t)
			eventually(t, 15*time.Second, "three serve", func() error { return r.dial(t, r.members[0]).Propose(t.Context()) })
			fill(t, r.raw(t, r.members[0]))
			lead := r.leader(t)
			leader := r.dial(t, r.members[lead])
			expect(t, "proposing without space", etcd.ErrNoSpace, leader.Propose(t.Context()))
			eventually(t, 10*time.Second, "the alarm", func() error {
				alarms, err := leader.Alarms(t.Context())
				if err == nil && len(alarms) == 0 {
					err = errors.New("none")
				}
				return err
			})
			checkMembershipUnderAlarm(t, leader)
			checkCompaction(t, leader)
			next := (lead + 1) % 3
			for _, i := range []int{(lead + 2) % 3, next} {
				checkDefragmentation(t, r.dial(t, r.members[i]), quota)
			}
			to, err := r.dial(t, r.members[next]).Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := leader.MoveLeader(t.Context(), to.MemberID); err != nil {
				t.Errorf("moving the leader of a full cluster: %v", err)
			}
			checkDefragmentation(t, leader, quota)
			expect(t, "proposing before the alarm is disarmed", etcd.ErrNoSpace, leader.Propose(t.Context()))
			checkDisarm(t, leader)
			checkHashes(t, r)
		})
	}
}

// checkMembershipUnderAlarm: an alarm refuses writes, and no change of the members.
func checkMembershipUnderAlarm(t *testing.T, leader etcd.Conn) {
	t.Helper()
	var added etcd.Member
	eventually(t, 15*time.Second, "a learner is taken", func() (err error) {
		added, err = leader.AddLearner(t.Context(), "http://127.0.0.1:1")
		return err
	})
	if err := leader.Remove(t.Context(), added.ID); err != nil {
		t.Errorf("removing a learner under an alarm: %v", err)
	}
}

// checkCompaction: it frees nothing on the disk. Nor does the member always tell what it has
// freed: that is counted anew only by the next write, and a full database takes none.
func checkCompaction(t *testing.T, leader etcd.Conn) {
	t.Helper()
	before, err := leader.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "compacting to the future", etcd.ErrFutureRevision, leader.Compact(t.Context(), before.Revision+1))
	if err := leader.Compact(t.Context(), before.Revision-2); err != nil {
		t.Fatalf("compacting: %v", err)
	}
	expect(t, "compacting again", etcd.ErrCompacted, leader.Compact(t.Context(), before.Revision-2))
	after, err := leader.Status(t.Context())
	if err != nil || after.DBSize < before.DBSize {
		t.Errorf("it had %d bytes, and has %d: %v", before.DBSize, after.DBSize, err)
	}
}

func checkDefragmentation(t *testing.T, member etcd.Conn, quota int64) {
	t.Helper()
	before, err := member.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := member.Defragment(t.Context()); err != nil {
		t.Errorf("defragmenting: %v", err)
	}
	after, err := member.Status(t.Context())
	if err != nil || after.DBSize > before.DBSize/2 || after.DBSize*10 > quota*9 {
		t.Errorf("it had %d bytes and has %d: %v", before.DBSize, after.DBSize, err)
	}
	if after.DBSizeQuota != 0 && after.DBSizeQuota != quota {
		t.Errorf("its quota is %d, want %d", after.DBSizeQuota, quota)
	}
}

func checkDisarm(t *testing.T, c etcd.Conn) {
	t.Helper()
	alarms, err := c.Alarms(t.Context())
	if err != nil || len(alarms) == 0 {
		t.Fatalf("alarms %v: %v", alarms, err)
	}
	for _, a := range alarms {
		if err := c.Disarm(t.Context(), a); err != nil {
			t.Errorf("disarming %v: %v", a, err)
		}
	}
	if err := c.Disarm(t.Context(), alarms[0]); err != nil {
		t.Errorf("disarming what is disarmed: %v", err)
	}
	if left, err := c.Alarms(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("%v are left: %v", left, err)
	}
	if err := c.Propose(t.Context()); err != nil {
		t.Errorf("proposing with the alarm disarmed: %v", err)
	}
}

// checkHashes: equal data has equal hashes, on every member and at any revision that is
// still there.
func checkHashes(t *testing.T, r *rig) {
	t.Helper()
	s, err := r.dial(t, r.members[0]).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, revision := range []int64{s.Revision, s.Revision - 1} {
		var hashes []etcd.Hash
		for _, m := range r.members {
			h, err := r.dial(t, m).Hash(t.Context(), revision)
			if err != nil {
				t.Errorf("hash at %d of %d: %v", revision, s.Revision, err)
			}
			if h.MemberID == 0 || h.CompactRevision == 0 {
				t.Errorf("%+v", h)
			}
			h.MemberID = 0
			hashes = append(hashes, h)
		}
		if len(slices.Compact(hashes)) != 1 {
			t.Errorf("at %d: %v", revision, hashes)
		}
	}
	_, err = r.dial(t, r.members[0]).Hash(t.Context(), s.Revision+1)
	expect(t, "a hash of the future", etcd.ErrFutureRevision, err)
	_, err = r.dial(t, r.members[0]).Hash(t.Context(), 1)
	expect(t, "a hash of what is gone", etcd.ErrCompacted, err)
}

// TestACorruptClusterCanBeChanged: CORRUPT refuses every write, and neither reads nor
// changes of the members, nor the listing of the alarms.
func TestACorruptClusterCanBeChanged(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, version, 3, plaintext)
			r.startAll(t)
			c := r.dial(t, r.members[0])
			eventually(t, 15*time.Second, "three serve", func() error { return c.Propose(t.Context()) })
			s, err := c.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := pb.NewMaintenanceClient(r.raw(t, r.members[0])).Alarm(t.Context(), &pb.AlarmRequest{
				Action: pb.AlarmRequest_ACTIVATE, MemberID: s.MemberID, Alarm: pb.AlarmType_CORRUPT,
			}); err != nil {
				t.Fatal(err)
			}
			expect(t, "proposing", etcd.ErrCorrupt, c.Propose(t.Context()))
			expect(t, "compacting", etcd.ErrCorrupt, c.Compact(t.Context(), 1))
			for name, call := range map[string]func(context.Context) error{
				"Read":    c.Read,
				"Members": func(ctx context.Context) error { _, err := c.Members(ctx); return err },
				"Hash":    func(ctx context.Context) error { _, err := c.Hash(ctx, s.Revision); return err },
			} {
				if err := call(t.Context()); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			checkMembershipUnderAlarm(t, r.dial(t, r.members[r.leader(t)]))
			checkDisarm(t, c)
		})
	}
}
