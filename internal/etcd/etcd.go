// Package etcd is the operator's own view of an etcd cluster: its members,
// their status, and the few calls that the operator makes. It knows no client
// library and no Kubernetes; v3client speaks to real members, etcdtest holds a
// cluster that behaves like one.
package etcd

import (
	"context"
	"errors"
	"time"
)

// Member is a line of etcd's member list.
type Member struct {
	// ID that etcd gave the member; never zero.
	ID uint64
	// Name is empty until the member has started for the first time.
	Name string
	// PeerURLs that the other members dial.
	PeerURLs []string
	// ClientURLs are empty until the member has published them, which it does
	// once it has started and there is a leader.
	ClientURLs []string
	// Learner is true for a member that does not vote.
	Learner bool
}

// Started says that the member has published itself: a process with this
// identity has booted and joined. It is read from etcd, never inferred.
func (m Member) Started() bool { return len(m.ClientURLs) > 0 }

// Membership is an answer to a member list call.
type Membership struct {
	// ClusterID of the member that answered.
	ClusterID uint64
	// MemberID of the member that answered.
	MemberID uint64
	// Term of the answering member when it answered.
	Term uint64
	// Members in etcd's order.
	Members []Member
}

// Status is what one member says of itself.
type Status struct {
	ClusterID uint64
	MemberID  uint64
	// Leader is the ID of the member that this one follows; zero for none.
	Leader uint64
	// Term, Index and Applied are raft's term, committed index and applied
	// index as this member knows them.
	Term, Index, Applied uint64
	// Version of etcd that the member runs, without a leading v.
	Version string
	// StorageVersion is the release whose format the member's storage has, "3.6.0" for
	// example; empty before etcd 3.6, which does not tell.
	StorageVersion string
	// Revision of the keys, as this member has applied them.
	Revision int64
	// DBSize is the size of the database on disk, in bytes; DBSizeInUse what of it is not
	// free for new data.
	DBSize, DBSizeInUse int64
	// DBSizeQuota is the size at which the member refuses writes, in bytes; zero before
	// etcd 3.6, which does not tell.
	DBSizeQuota int64
	// Learner is true for a member that does not vote.
	Learner bool
	// Downgrade is the version that a downgrade is enabled to; empty for none, and
	// before etcd 3.6, which does not tell.
	Downgrade string
	// Errors that the member reports, alarms among them.
	Errors []string
}

// AlarmKind is the kind of an alarm.
type AlarmKind string

// The kinds of alarm that etcd raises.
const (
	AlarmNoSpace AlarmKind = "NOSPACE"
	AlarmCorrupt AlarmKind = "CORRUPT"
)

// Alarm is an alarm that one member raised.
type Alarm struct {
	MemberID uint64
	Kind     AlarmKind
}

// Hash is what a member's keys come to, up to a revision.
type Hash struct {
	MemberID uint64
	// CompactRevision is the revision that the member goes by as discarded: another hash is
	// other data only where it is the same.
	CompactRevision int64
	Hash            uint32
}

// Errors that mean that a change is done already, in the way, or too early.
// Implementations wrap them; look again before deciding anything from one.
var (
	// ErrPeerURLExists: a member with this peer URL is listed already.
	ErrPeerURLExists = errors.New("peer URL already exists")
	// ErrMemberNotFound: no member with this ID is listed.
	ErrMemberNotFound = errors.New("member not found")
	// ErrTooManyLearners: another learner is listed.
	ErrTooManyLearners = errors.New("too many learner members")
	// ErrUnhealthyCluster: a voter is down or was connected less than 5 s ago.
	ErrUnhealthyCluster = errors.New("unhealthy cluster")
	// ErrLearnerNotReady: the learner has not caught up.
	ErrLearnerNotReady = errors.New("learner not ready")
	// ErrNotStarted: too few started members would remain.
	ErrNotStarted = errors.New("not enough started members")
	// ErrNoLeader: the member knows no leader, or no quorum answered in time.
	// A member that hangs on an established connection looks the same: Status,
	// which needs no quorum, tells them apart.
	ErrNoLeader = errors.New("no leader")
	// ErrNoSpace: an alarm refuses writes.
	ErrNoSpace = errors.New("database space exceeded")
	// ErrCorrupt: the alarm CORRUPT refuses writes.
	ErrCorrupt = errors.New("corrupt cluster")
	// ErrCompacted: the revision has been discarded already.
	ErrCompacted = errors.New("revision has been compacted")
	// ErrFutureRevision: the member has not come as far as that revision.
	ErrFutureRevision = errors.New("revision is in the future")
	// ErrNotLearner: the member to promote votes already.
	ErrNotLearner = errors.New("not a learner")
	// ErrNotLeader: the member asked to hand over the leadership has it not.
	ErrNotLeader = errors.New("not the leader")
	// ErrLearner: the member asked is a learner, which answers Status alone.
	ErrLearner = errors.New("asked of a learner")
	// ErrDowngrading: a downgrade is enabled already.
	ErrDowngrading = errors.New("downgrade in progress")
	// ErrNoDowngrade: none is.
	ErrNoDowngrade = errors.New("no downgrade in progress")
	// ErrPermission: authentication is on and does not take our certificate
	// for root.
	ErrPermission = errors.New("permission denied")
	// ErrUnreachable: there was no connection to the member, or it broke; for
	// TLS, either side may have refused the other. Unreachable is not dead.
	ErrUnreachable = errors.New("member unreachable")
	// ErrCredentials: the credentials hold no certificate, key or authority.
	ErrCredentials = errors.New("unusable credentials")
	// ErrOutcomeUnknown comes with the error of a call that changes something
	// and may or may not have done so, now or later: never repeat such a call
	// before a look at the cluster, taken after a later proposal through the
	// same member committed in the same term.
	ErrOutcomeUnknown = errors.New("outcome unknown")
)

// Conn asks one member. Every call is bounded by the implementation's own
// timeout, in addition to ctx.
type Conn interface {
	// Status of the member itself, over the pooled connection.
	Status(ctx context.Context) (Status, error)
	// Members is a linearizable member list: a majority confirmed it.
	Members(ctx context.Context) (Membership, error)
	// Read makes one linearizable read of a key outside the users' range of
	// interest; it costs no revision.
	Read(ctx context.Context) error
	// Propose grants a lease and revokes it: it takes raft's write path, is
	// refused under NOSPACE, and costs no revision.
	Propose(ctx context.Context) error
	// Alarms lists the active alarms. That is a proposal in raft's log like any other,
	// and no alarm refuses it: when it has come back, so has whatever was proposed
	// through the same leader before.
	Alarms(ctx context.Context) ([]Alarm, error)
	// AddLearner adds a member that does not vote.
	AddLearner(ctx context.Context, peerURL string) (Member, error)
	// UpdateMember gives a member another peer URL, which the others dial from then on.
	UpdateMember(ctx context.Context, id uint64, peerURL string) error
	// Promote makes a learner a voter.
	Promote(ctx context.Context, id uint64) error
	// Remove removes a member.
	Remove(ctx context.Context, id uint64) error
	// MoveLeader hands the leadership over; only the leader takes the call.
	MoveLeader(ctx context.Context, to uint64) error
	// Downgrade asks for a step of etcd's own downgrade to a version, for example "3.6.0".
	Downgrade(ctx context.Context, action DowngradeAction, version string) error

	// Compact discards the history up to the revision, on all members, and returns when
	// this member has done so.
	Compact(ctx context.Context, revision int64) error
	// Defragment gives the free space of this member's database back to the file system.
	// The member answers nobody meanwhile, and goes on to the end even when nobody waits
	// for it any more.
	Defragment(ctx context.Context) error
	// Hash of this member's keys at the revision. The member commits nothing meanwhile.
	Hash(ctx context.Context, revision int64) (Hash, error)
	// Disarm ends an alarm.
	Disarm(ctx context.Context, a Alarm) error
}

// DowngradeAction is a step of a downgrade.
type DowngradeAction int

const (
	// DowngradeValidate asks whether the cluster can be downgraded to the version.
	DowngradeValidate DowngradeAction = iota
	// DowngradeEnable has the members prepare for it; nobody can join from then on.
	DowngradeEnable
	// DowngradeCancel ends it.
	DowngradeCancel
)

// Endpoint is where a member answers.
type Endpoint struct {
	// Address is host:port, the pod's IP so that no DNS is needed.
	Address string
	// ServerName is the DNS name that the member's certificate must carry.
	ServerName string
	// Plaintext says that the member takes no TLS: it is dialed without, whatever the
	// credentials.
	Plaintext bool
}

// Credentials of the operator; the zero value means plaintext.
type Credentials struct {
	// CA, Certificate and Key are PEM.
	CA, Certificate, Key []byte
}

// Dialer hands out connections. They are pooled by group, which is a cluster's
// UID: dialing an endpoint with the same credentials again is free, and never
// waits for the network. The first call on a connection does, within its
// timeout.
type Dialer interface {
	Dial(group string, to Endpoint, as Credentials) (Conn, error)
	// Keep closes every pooled connection of the group that is not to one of
	// the endpoints; without endpoints it closes all of them.
	Keep(group string, endpoints ...Endpoint)
}

// Shown is what a port of a member shows to whoever shakes hands with it.
type Shown struct {
	// Leaf is the certificate that it serves, DER.
	Leaf []byte
	// Trusts are the subjects, DER, of the authorities whose certificates it takes.
	Trusts [][]byte
}

// Fsyncs are how often etcd's log was synced to disk since the process began, and how
// long all of that took.
type Fsyncs struct {
	Count uint64
	Took  time.Duration
}

// Meter reads what members measure of themselves.
type Meter interface {
	// Fsyncs asks over a connection of its own; the endpoint is the port for metrics. The
	// error wraps ErrUnreachable or ErrCredentials.
	Fsyncs(ctx context.Context, group string, to Endpoint, as Credentials) (Fsyncs, error)
}

// Greeter shakes hands with members, to see which certificates their processes use.
type Greeter interface {
	// Greet connects anew, without a certificate of its own: the member shows what it
	// serves and whom it trusts before it asks for one. ca is PEM, the authorities that
	// its certificate must be of. The error wraps ErrUnreachable or ErrCredentials.
	Greet(ctx context.Context, to Endpoint, ca []byte) (Shown, error)
}
