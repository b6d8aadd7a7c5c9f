package v3client

import (
	"context"
	"fmt"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/connectivity"

	"github.com/quorate/quorate/internal/etcd"
)

// Timeouts of the calls, each in addition to the caller's context.
const (
	// statusTimeout is short: the member answers from memory, and a pass over
	// all members must not wait for one that hangs.
	statusTimeout = 2 * time.Second
	// readTimeout outlives an election (1-2 s with etcd's defaults), so that a
	// leader's failure alone does not read as a lost quorum.
	readTimeout = 3 * time.Second
	// proposeTimeout is for two proposals, each of which may meet an election.
	proposeTimeout = 4 * time.Second
	// alarmTimeout: listing alarms goes through raft too.
	alarmTimeout = 3 * time.Second
	// changeTimeout outlives an election and a slow disk: giving up on a
	// membership change leaves its outcome unknown, which costs more than a
	// wait does.
	changeTimeout = 5 * time.Second
	// defragmentTimeout: a member that defragments answers no probe. Its guard calls it
	// alive for five minutes all the same (stall, in internal/member), and what has not
	// ended by then is ended by the kubelet.
	defragmentTimeout = 4 * time.Minute
	// compactTimeout and hashTimeout are for a full database on a slow disk.
	compactTimeout = 2 * time.Minute
	hashTimeout    = 2 * time.Minute
)

const (
	// probeKey is read by Read. No key of a user equals it unless they mean
	// to: it begins with a zero byte, and it is only counted, never written.
	probeKey = "\x00quorate"
	// probeTTL of the lease of Propose, in seconds: it ends by itself when the
	// revocation is lost, and is long enough not to end before it.
	probeTTL = 10
)

// conn asks one member over a pooled connection.
type conn struct{ link *link }

var _ etcd.Conn = (*conn)(nil)

// call runs one call with its own timeout and explains its error. It is sent
// at most once: gRPC repeats by itself only what the server never saw.
func (c *conn) call(ctx context.Context, what string, does effect, timeout time.Duration, do func(context.Context) error) error {
	if err := c.link.begin(); err != nil {
		return fmt.Errorf("%s %s: %w", what, c.link.to.Address, err)
	}
	defer c.link.end()
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, timeoutError{after: timeout})
	defer cancel()
	if err := do(ctx); err != nil {
		connected := func() bool { return c.link.grpc.GetState() == connectivity.Ready }
		return fmt.Errorf("%s %s: %w", what, c.link.to.Address, explain(ctx, does, connected, err))
	}
	return nil
}

func (c *conn) Status(ctx context.Context) (s etcd.Status, err error) {
	err = c.call(ctx, "asking status of", reads, statusTimeout, func(ctx context.Context) error {
		r, err := pb.NewMaintenanceClient(c.link.grpc).Status(ctx, &pb.StatusRequest{})
		if err != nil {
			return err
		}
		s = etcd.Status{
			ClusterID: r.GetHeader().GetClusterId(), MemberID: r.GetHeader().GetMemberId(),
			Leader: r.GetLeader(), Term: r.GetRaftTerm(), Index: r.GetRaftIndex(), Applied: r.GetRaftAppliedIndex(),
			Version: r.GetVersion(), StorageVersion: r.GetStorageVersion(), DBSize: r.GetDbSize(), DBSizeInUse: r.GetDbSizeInUse(), DBSizeQuota: r.GetDbSizeQuota(),
			Revision: r.GetHeader().GetRevision(), Learner: r.GetIsLearner(), Errors: r.GetErrors(),
		}
		if r.GetDowngradeInfo().GetEnabled() {
			s.Downgrade = r.GetDowngradeInfo().GetTargetVersion()
		}
		return nil
	})
	return s, err
}

func (c *conn) Members(ctx context.Context) (m etcd.Membership, err error) {
	err = c.call(ctx, "listing members through", reads, readTimeout, func(ctx context.Context) error {
		r, err := pb.NewClusterClient(c.link.grpc).MemberList(ctx, &pb.MemberListRequest{Linearizable: true})
		if err != nil {
			return err
		}
		m = etcd.Membership{
			ClusterID: r.GetHeader().GetClusterId(), MemberID: r.GetHeader().GetMemberId(), Term: r.GetHeader().GetRaftTerm(),
		}
		for _, listed := range r.GetMembers() {
			m.Members = append(m.Members, member(listed))
		}
		return nil
	})
	return m, err
}

func (c *conn) Read(ctx context.Context) error {
	return c.call(ctx, "reading through", reads, readTimeout, func(ctx context.Context) error {
		_, err := pb.NewKVClient(c.link.grpc).Range(ctx, &pb.RangeRequest{Key: []byte(probeKey), CountOnly: true, Limit: 1})
		return err
	})
}

func (c *conn) Propose(ctx context.Context) error {
	return c.call(ctx, "proposing through", changes, proposeTimeout, func(ctx context.Context) error {
		leases := pb.NewLeaseClient(c.link.grpc)
		granted, err := leases.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: probeTTL})
		if err != nil {
			return err
		}
		_, err = leases.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: granted.GetID()})
		return err
	})
}

func (c *conn) Alarms(ctx context.Context) (alarms []etcd.Alarm, err error) {
	err = c.call(ctx, "listing alarms through", reads, alarmTimeout, func(ctx context.Context) error {
		r, err := pb.NewMaintenanceClient(c.link.grpc).Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_GET})
		if err != nil {
			return err
		}
		for _, a := range r.GetAlarms() {
			if a.GetAlarm() != pb.AlarmType_NONE {
				alarms = append(alarms, etcd.Alarm{MemberID: a.GetMemberID(), Kind: etcd.AlarmKind(a.GetAlarm().String())})
			}
		}
		return nil
	})
	return alarms, err
}

func (c *conn) AddLearner(ctx context.Context, peerURL string) (added etcd.Member, err error) {
	err = c.call(ctx, "adding learner "+peerURL+" through", changes, changeTimeout, func(ctx context.Context) error {
		r, err := pb.NewClusterClient(c.link.grpc).MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{peerURL}, IsLearner: true})
		if err != nil {
			return err
		}
		added = member(r.GetMember())
		return nil
	})
	return added, err
}

func (c *conn) UpdateMember(ctx context.Context, id uint64, peerURL string) error {
	return c.call(ctx, fmt.Sprintf("giving member %x the peer URL %s through", id, peerURL), changes, changeTimeout, func(ctx context.Context) error {
		_, err := pb.NewClusterClient(c.link.grpc).MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: id, PeerURLs: []string{peerURL}})
		return err
	})
}

func (c *conn) Promote(ctx context.Context, id uint64) error {
	return c.call(ctx, fmt.Sprintf("promoting member %x through", id), changes, changeTimeout, func(ctx context.Context) error {
		_, err := pb.NewClusterClient(c.link.grpc).MemberPromote(ctx, &pb.MemberPromoteRequest{ID: id})
		return err
	})
}

func (c *conn) Remove(ctx context.Context, id uint64) error {
	return c.call(ctx, fmt.Sprintf("removing member %x through", id), changes, changeTimeout, func(ctx context.Context) error {
		_, err := pb.NewClusterClient(c.link.grpc).MemberRemove(ctx, &pb.MemberRemoveRequest{ID: id})
		return err
	})
}

func (c *conn) MoveLeader(ctx context.Context, to uint64) error {
	return c.call(ctx, fmt.Sprintf("moving leadership to member %x from", to), changes, changeTimeout, func(ctx context.Context) error {
		_, err := pb.NewMaintenanceClient(c.link.grpc).MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: to})
		return err
	})
}

// actions are etcd's names of the steps of a downgrade.
var actions = map[etcd.DowngradeAction]pb.DowngradeRequest_DowngradeAction{
	etcd.DowngradeValidate: pb.DowngradeRequest_VALIDATE,
	etcd.DowngradeEnable:   pb.DowngradeRequest_ENABLE,
	etcd.DowngradeCancel:   pb.DowngradeRequest_CANCEL,
}

func (c *conn) Downgrade(ctx context.Context, action etcd.DowngradeAction, version string) error {
	does := changes
	if action == etcd.DowngradeValidate {
		does = reads
	}
	return c.call(ctx, fmt.Sprintf("%s a downgrade to %s through", strings.ToLower(actions[action].String()), version), does, changeTimeout, func(ctx context.Context) error {
		_, err := pb.NewMaintenanceClient(c.link.grpc).Downgrade(ctx, &pb.DowngradeRequest{Action: actions[action], Version: version})
		return err
	})
}

func (c *conn) Compact(ctx context.Context, revision int64) error {
	return c.call(ctx, fmt.Sprintf("compacting to revision %d through", revision), changes, compactTimeout, func(ctx context.Context) error {
		_, err := pb.NewKVClient(c.link.grpc).Compact(ctx, &pb.CompactionRequest{Revision: revision, Physical: true})
		return err
	})
}

func (c *conn) Defragment(ctx context.Context) error {
	return c.call(ctx, "defragmenting", changes, defragmentTimeout, func(ctx context.Context) error {
		_, err := pb.NewMaintenanceClient(c.link.grpc).Defragment(ctx, &pb.DefragmentRequest{})
		return err
	})
}

func (c *conn) Hash(ctx context.Context, revision int64) (h etcd.Hash, err error) {
	err = c.call(ctx, fmt.Sprintf("hashing the keys at revision %d of", revision), reads, hashTimeout, func(ctx context.Context) error {
		r, err := pb.NewMaintenanceClient(c.link.grpc).HashKV(ctx, &pb.HashKVRequest{Revision: revision})
		if err != nil {
			return err
		}
		h = etcd.Hash{MemberID: r.GetHeader().GetMemberId(), CompactRevision: r.GetCompactRevision(), Hash: r.GetHash()}
		return nil
	})
	return h, err
}

func (c *conn) Disarm(ctx context.Context, a etcd.Alarm) error {
	return c.call(ctx, fmt.Sprintf("disarming %s of member %x through", a.Kind, a.MemberID), changes, changeTimeout, func(ctx context.Context) error {
		kind := pb.AlarmType(pb.AlarmType_value[string(a.Kind)])
		_, err := pb.NewMaintenanceClient(c.link.grpc).Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: a.MemberID, Alarm: kind})
		return err
	})
}

func member(m *pb.Member) etcd.Member {
	return etcd.Member{
		ID: m.GetID(), Name: m.GetName(), PeerURLs: m.GetPeerURLs(), ClientURLs: m.GetClientURLs(), Learner: m.GetIsLearner(),
	}
}
