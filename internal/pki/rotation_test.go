package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/quorate/quorate/test/mutants"
)

const soak = time.Hour

// process is a member: its pod's files, and what its etcd has read at its start.
type process struct {
	files        map[string][]byte
	client, peer []byte
	annotation   string
}

// rig is a cluster whose authorities are rotated, with kubelets that are late, members
// that crash, an application that reads its Secret now and then, and operators that die
// between two writes.
type rig struct {
	t        *testing.T
	random   *rand.Rand
	now      time.Time
	members  []string
	have     secrets
	versions map[string]int
	before   time.Time
	run      map[string]*process
	app      map[string][]byte
	read     time.Time
	// held is what an operator that is held up has yet to write, and from which versions.
	held  []SecretData
	since map[string]int
	rolls map[string]int
	steps []string
	valid map[string]bool
	// issued are the certificates of others, if there are any at this time.
	issued func() map[string]Issued
}

func newRig(t *testing.T, seed uint64) *rig {
	t.Helper()
	r := &rig{
		t: t, random: rand.New(rand.NewPCG(seed, 1)), now: start.Add(time.Hour), members: slices.Clone(founders), have: founded(t, founders...),
		versions: map[string]int{}, before: start.Add(2 * time.Hour), run: map[string]*process{}, rolls: map[string]int{}, valid: map[string]bool{},
	}
	for _, m := range founders {
		r.start(m, "")
	}
	r.app, r.read = r.have["c-client-tls"], r.now
	return r
}

// start makes a member's pod, with the files of now.
func (r *rig) start(member, annotation string) {
	r.run[member] = &process{annotation: annotation, files: r.have[MemberSecret(member)]}
	r.restart(member)
}

// restart has etcd read whom to trust from the files that its pod has.
func (r *rig) restart(member string) {
	p := r.run[member]
	p.client, p.peer = p.files[KeyClientCA], p.files[KeyPeerCA]
}

func (r *rig) inputs() Inputs {
	in := inputs(r.have, AuthorityExpected, r.members...)
	in.RotateBefore, in.Soak = r.before, soak
	if r.issued != nil {
		in.Issued = r.issued()
	}
	return in
}

// plan is a pass of an operator, with handshakes when it asks for them.
func (r *rig) plan() Result {
	in := r.inputs()
	result := Plan(r.now, in)
	if result.Ask != nil {
		in.Shown = map[string]Shown{}
		for name, p := range r.run {
			in.Shown[name] = Shown{Client: shownBy(p.files[KeyServerCert], p.client), Peer: shownBy(p.files[KeyPeerCert], p.peer)}
		}
		result = Plan(r.now, in)
	}
	return result
}

func shownBy(leaf, ca []byte) Port {
	var port Port
	port.Leaf = parseCert(leaf).Raw
	for _, cert := range parseCerts(ca) {
		port.Trusts = append(port.Trusts, cert.RawSubject)
	}
	return port
}

func (r *rig) write(s SecretData) {
	r.have[s.Name] = s.Data
	r.versions[s.Name]++
}

// pass of an operator, of which only the first writes come about.
func (r *rig) pass(most int) {
	result := r.plan()
	for i, s := range slices.Concat(result.Create, result.Renew) {
		if i < most {
			r.steps = append(r.steps, s.Name+": "+s.Why)
			r.write(s)
		}
	}
}

// holdUp has an operator decide, and write only when finish lets it.
func (r *rig) holdUp() {
	result := r.plan()
	r.held, r.since = slices.Concat(result.Create, result.Renew), maps.Clone(r.versions)
}

// finish writes what was held up, where nobody has written meanwhile.
func (r *rig) finish() {
	for _, s := range r.held {
		if r.versions[s.Name] == r.since[s.Name] {
			r.write(s)
		}
	}
	r.held = nil
}

// trust is whom members are to trust and what their Secrets hold, without the rest of a
// plan.
func (r *rig) trust() Result {
	p := planner{now: r.now, in: r.inputs()}
	p.trust()
	return p.result
}

// roll makes the pod of one member again that was made with other authorities.
func (r *rig) roll() {
	result := r.trust()
	for _, m := range r.members {
		carried, known := result.Carried[m]
		if p := r.run[m]; p != nil && known && result.Trust != TrustUnknown && carried == result.Trust && p.annotation != result.Trust {
			r.rolls[m]++
			r.start(m, carried)
			return
		}
	}
}

// join has a fourth member start once it has its Secret.
func (r *rig) join() {
	const name = "c-0003"
	if !slices.Contains(r.members, name) {
		r.members = append(r.members, name)
	}
	if r.run[name] == nil && r.have[MemberSecret(name)] != nil {
		r.start(name, r.trust().Carried[name])
	}
}

// pause lets time go by. An application reads its Secret again within the soak.
func (r *rig) pause(d time.Duration) {
	if r.now.Add(d).Sub(r.read) >= soak {
		r.app, r.read = r.have["c-client-tls"], r.now
	}
	r.now = r.now.Add(d)
}

func (r *rig) act() {
	member := r.members[r.random.IntN(len(r.members))]
	switch r.random.IntN(10) {
	case 0, 1:
		r.pass(99)
	case 2:
		r.pass(r.random.IntN(6))
	case 3, 4:
		r.roll()
	case 5:
		if r.run[member] != nil {
			r.restart(member)
		}
	case 6:
		if p := r.run[member]; p != nil {
			p.files = r.have[MemberSecret(member)]
		}
	case 7:
		r.pause(time.Duration(1+r.random.IntN(20)) * time.Minute)
	case 8:
		if r.held == nil {
			r.holdUp()
		} else {
			r.finish()
		}
	case 9:
		if r.now.After(start.Add(3 * time.Hour)) {
			r.join()
		}
	}
}

// trusts says that a leaf is taken by whoever trusts ca, whatever the time.
func (r *rig) trusts(ca, leaf []byte) bool {
	key := fmt.Sprintf("%x/%x", sha256.Sum256(ca), sha256.Sum256(leaf))
	is, known := r.valid[key]
	if !known {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(ca)
		cert := parseCert(leaf)
		_, err := cert.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: cert.NotBefore.Add(Backdate), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		is = err == nil
		r.valid[key] = is
	}
	return is
}

// strangers are the pairs that do not trust each other.
func (r *rig) strangers() (pairs []string) {
	need := func(ok bool, format string, args ...any) {
		if !ok {
			pairs = append(pairs, fmt.Sprintf(format, args...))
		}
	}
	operator := r.have["c-operator-tls"]
	for a, is := range r.run {
		for b, other := range r.run {
			need(r.trusts(is.peer, other.files[KeyPeerCert]), "%s refuses its peer %s", a, b)
		}
		need(r.trusts(is.client, operator[KeyCert]), "%s refuses the operator", a)
		need(r.trusts(operator[KeyCA], is.files[KeyServerCert]), "the operator refuses %s", a)
		need(r.trusts(is.client, r.app[KeyCert]), "%s refuses the application", a)
		need(r.trusts(r.app[KeyCA], is.files[KeyServerCert]), "the application refuses %s", a)
		need(r.trusts(is.files[KeyClientCA], is.files[KeyServerCert]), "etcdctl in %s refuses its member", a)
	}
	slices.Sort(pairs)
	return pairs
}

// over says that both authorities are new and alone, for everybody.
func (r *rig) over() bool {
	for _, name := range []string{"c-client-ca", "c-peer-ca"} {
		if data := r.have[name]; data[KeySince] == nil || data[KeyNextCert] != nil || data[KeyFormerCert] != nil {
			return false
		}
	}
	result := Plan(r.now, r.inputs())
	for _, is := range result.Rotations {
		a, _ := parseAuthority(is.Secret, r.have[is.Secret])
		if is.Phase != PhaseStable || a.cert.NotBefore.Before(r.before.Add(-Backdate)) {
			return false
		}
	}
	for _, p := range r.run {
		if p.annotation != result.Trust {
			return false
		}
	}
	return len(result.Renew)+len(result.Create) == 0 && len(r.run) == len(r.members)
}

// TestEverybodyTrustsEverybodyAtEachCut: whatever comes between two writes, every
// process takes the leaf of every other, the operator's and the application's, and the
// rotation comes to its end.
func TestEverybodyTrustsEverybodyAtEachCut(t *testing.T) {
	seeds := uint64(10)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		r := newRig(t, seed)
		n := 0
		for ; !r.over(); n++ {
			if n == 4000 {
				t.Fatalf("seed %d: it does not end: %v\n%s", seed, Plan(r.now, r.inputs()).Rotations, strings.Join(r.steps, "\n"))
			}
			r.act()
			if s := r.strangers(); len(s) > 0 {
				t.Fatalf("seed %d, action %d: %v\n%s", seed, n, s, strings.Join(r.steps, "\n"))
			}
		}
	}
}

// TestARotationTakesItsPhasesInOrder, restarts each member twice, and waits for each
// of them.
func TestARotationTakesItsPhasesInOrder(t *testing.T) {
	r := newRig(t, 1)
	phases := func() (out []Phase) {
		for _, is := range r.plan().Rotations {
			out = append(out, is.Phase)
		}
		return out
	}
	is := func(want Phase) {
		t.Helper()
		if got := phases(); !slices.Equal(got, []Phase{want, want}) {
			t.Fatalf("phases %v, want %s twice", got, want)
		}
	}
	settle := func() {
		for range 6 {
			r.pass(99)
		}
	}
	settle()
	is(PhaseStable)
	if next := r.plan().NextRenewal; !next.Equal(start.Add(time.Hour).Add(life*2/3)) && !next.Equal(r.before) {
		t.Errorf("looked at again at %v", next)
	}
	r.now = r.before
	settle()
	is(PhaseTrusting)
	r.pause(soak)
	settle()
	is(PhaseTrusting) // nobody has restarted
	for range 2 {
		r.roll()
	}
	settle()
	is(PhaseTrusting) // one has not
	waiting := r.plan().Rotations[0].Waiting
	if diff := cmp.Diff([]string{"c-0002"}, waiting); diff != "" {
		t.Errorf("waited for (-want +got):\n%s", diff)
	}
	r.roll()
	settle()
	is(PhaseServing)
	r.pause(soak)
	settle()
	is(PhaseServing) // the files have not come into the pods
	for _, m := range founders {
		r.run[m].files = r.have[MemberSecret(m)]
	}
	r.roll()
	if want := map[string]int{"c-0000": 1, "c-0001": 1, "c-0002": 1}; !maps.Equal(r.rolls, want) {
		t.Errorf("restarted %v before the end", r.rolls)
	}
	settle()
	is(PhaseStable)
	for range 4 {
		r.roll()
	}
	if want := map[string]int{"c-0000": 2, "c-0001": 2, "c-0002": 2}; !maps.Equal(r.rolls, want) || !r.over() {
		t.Errorf("restarted %v, over: %t", r.rolls, r.over())
	}
	for name, data := range r.have {
		for key, value := range data {
			if n := len(parseCerts(value)); n > 1 {
				t.Errorf("%s of %s holds %d certificates in the end", key, name, n)
			}
		}
	}
	settle()
	if got := r.steps[len(r.steps)-1]; !strings.HasSuffix(got, "has trusted") {
		t.Errorf("the last step is %q", got)
	}
}

// TestTheTimeOfApplicationsBeginsWhenTheirSecretHoldsWhatIsNew, however long an operator
// is away between two writes, and nobody is asked before it is over.
func TestTheTimeOfApplicationsBeginsWhenTheirSecretHoldsWhatIsNew(t *testing.T) {
	r := newRig(t, 1)
	r.now = r.before
	authorities := func() (n int) {
		for _, s := range r.plan().Renew {
			if s.Authority() {
				n++
			}
		}
		return n
	}
	r.pass(2)
	r.pause(2 * soak)
	if n := authorities(); n > 0 {
		t.Errorf("%d authorities go on, and no Secret holds the next", n)
	}
	r.pass(99)
	if n := authorities(); n != 2 {
		t.Errorf("%d authorities note the time, want both", n)
	}
	r.pass(99)
	r.pause(soak - time.Minute)
	if ask := Plan(r.now, r.inputs()).Ask; ask != nil {
		t.Errorf("%v are asked too early", ask.Members)
	}
	r.pause(time.Minute)
	if ask := Plan(r.now, r.inputs()).Ask; ask == nil || !slices.Equal(ask.Members, founders) {
		t.Errorf("asked %+v", ask)
	}
}

func TestWhenARotationBegins(t *testing.T) {
	base := founded(t, founders...)
	cases := map[string]struct {
		at     time.Time
		before time.Time
		policy AuthorityPolicy
		want   []string
	}{
		"not without a word":                {at: start.Add(time.Minute)},
		"when it is asked for":              {at: start.Add(time.Minute), before: start.Add(time.Second), want: []string{"c-client-ca", "c-peer-ca"}},
		"not for a time before the issue":   {at: start.Add(time.Minute), before: start.Add(-time.Hour)},
		"not for the very second":           {at: start.Add(time.Minute), before: start},
		"not before its date":               {at: start.Add(time.Minute), before: start.Add(2 * time.Minute)},
		"not while the cluster is founded":  {at: start.Add(time.Minute), before: start.Add(time.Second), policy: AuthorityMayBeCreated},
		"by itself at two thirds":           {at: start.Add(AuthorityDuration * 2 / 3), want: []string{"c-client-ca", "c-peer-ca"}},
		"not a second before":               {at: start.Add(AuthorityDuration*2/3 - time.Second)},
		"no more once the authority ended":  {at: start.Add(AuthorityDuration)},
		"not by a clock that runs too late": {at: start.Add(-time.Hour), before: start.Add(-2 * time.Hour)},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			in := inputs(base, tc.policy, founders...)
			in.RotateBefore = tc.before
			var got []string
			for _, s := range Plan(tc.at, in).Renew {
				if s.Authority() {
					got = append(got, s.Name)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("begun (-want +got):\n%s", diff)
			}
		})
	}
}

// TestARotationThatTakesTooLongIsTold: no sooner than at five sixths of an authority's
// life, for it began at two thirds.
func TestARotationThatTakesTooLongIsTold(t *testing.T) {
	base, told := founded(t, founders...), start.Add(AuthorityDuration*5/6)
	for at, want := range map[time.Time][]string{
		told: {"c-client-ca AuthorityExpiring", "c-peer-ca AuthorityExpiring"}, told.Add(-time.Minute): nil,
	} {
		if diff := cmp.Diff(want, reasons(Plan(at, inputs(base, AuthorityExpected, founders...)).Problems)); diff != "" {
			t.Errorf("problems at %v (-want +got):\n%s", at, diff)
		}
	}
}

// TestABrokenRotationChangesNothing: what cannot be read is told, no leaf is issued by
// it, and nobody is restarted for it.
func TestABrokenRotationChangesNothing(t *testing.T) {
	r := newRig(t, 1)
	r.now = r.before
	for range 3 {
		r.pass(99)
	}
	for key, value := range map[string]string{KeyNextCert: "", KeyNextKey: "", KeySince: "tomorrow", KeyFormerCert: "nothing"} {
		have := copied(r.have)
		have["c-peer-ca"][key] = []byte(value)
		in := r.inputs()
		in.Secrets = have
		result := Plan(r.now, in)
		if diff := cmp.Diff([]string{"c-peer-ca SecretInvalid"}, reasons(result.Problems)); diff != "" {
			t.Errorf("%s is %q (-want +got):\n%s", key, value, diff)
		}
		for m, carried := range result.Carried {
			if result.Trust == carried && carried != r.plan().Carried[m] {
				t.Errorf("%s is %q, and %s is to be restarted", key, value, m)
			}
		}
		if len(result.Renew) > 0 {
			t.Errorf("%s is %q, and %v are written", key, value, names(result.Renew))
		}
	}
}

func TestTrust(t *testing.T) {
	old := founded(t, founders...)
	if r := Plan(start, inputs(old, AuthorityExpected, founders...)); r.Trust != "" || len(r.Carried) != 3 || r.Carried["c-0001"] != "" {
		t.Errorf("authorities of the founding: %q %v; their pods have no annotation", r.Trust, r.Carried)
	}
	r := newRig(t, 1)
	r.now = r.before
	r.pass(99)
	began := r.plan()
	if began.Trust == "" || began.Trust == TrustUnknown || began.Carried["c-0001"] == began.Trust {
		t.Errorf("a rotation begins: %q, carried %v", began.Trust, began.Carried)
	}
	r.pass(99)
	if is := r.plan(); is.Carried["c-0001"] != is.Trust || is.Trust != began.Trust {
		t.Errorf("the Secrets follow: %q, carried %v", is.Trust, is.Carried)
	}
	delete(r.have, "c-peer-ca")
	if is := r.plan(); is.Trust != TrustUnknown {
		t.Errorf("without an authority: %q", is.Trust)
	}
	block, _ := pem.Decode(r.have["c-client-ca"][KeyNextCert])
	if next, err := x509.ParseCertificate(block.Bytes); err != nil || string(next.RawSubject) == string(parseCert(r.have["c-client-ca"][KeyCert]).RawSubject) {
		t.Errorf("two authorities of one subject: %v", err)
	}
}

// rotationBreaches give up a rule of a rotation each.
var rotationBreaches = map[string]mutants.Mutant{
	"leaves come before all trust the bundle":     mutants.Of("rotation.go", "if !a.followed(p.portOf(a, m), p.between(a, m)) {", "if a.next == nil && !a.followed(p.portOf(a, m), p.between(a, m)) {"),
	"the former goes before all leaves are new":   mutants.Of("rotation.go", "if !a.followed(p.portOf(a, m), p.between(a, m)) {", "if a.next != nil && !a.followed(p.portOf(a, m), p.between(a, m)) {"),
	"a leaf that is served is not looked at":      mutants.Of("rotation.go", "trusts(a.cert) && signed(append([]*x509.Certificate{leaf}, between...), []*x509.Certificate{a.cert})", "trusts(a.cert) && leaf != nil"),
	"the peer port is taken for the client port":  mutants.Of("rotation.go", "if a.secret == PeerCASecret(p.in.Cluster) {\n\t\treturn p.in.Shown", "if false {\n\t\treturn p.in.Shown"),
	"applications get no time":                    mutants.Of("rotation.go", "if p.now.Before(r.Until) || !p.inPlace(a)", "if !p.inPlace(a)"),
	"their time begins before they could read":    mutants.Of("rotation.go", "if p.inPlace(a) {", "if true {"),
	"Secrets need not hold what is new":           mutants.Of("rotation.go", "!bytes.Equal(data[l.caKey], a.bundle()) || ", ""),
	"the next signs before it is trusted":         mutants.Of("rotation.go", "map[string][]byte{KeyNextCert: next.pem, KeyNextKey: made.Data[KeyKey]}, nil, notYet,", "map[string][]byte{KeyCert: next.pem, KeyKey: made.Data[KeyKey], KeyFormerCert: a.pem}, nil, notYet,"),
	"the former is forgotten when the next signs": mutants.Of("rotation.go", "KeyNextKey], KeyFormerCert: a.pem}", "KeyNextKey]}"),
	"the order of a bundle restarts members":      mutants.Of("rotation.go", "return bytes.Compare(a.Raw, b.Raw)", "return 0"),
	"pods of the founding are restarted":          mutants.Of("rotation.go", "if !rotated && hash != TrustUnknown {", "if !rotated && hash == TrustUnknown {"),
	"leaves of the former make it another":        mutants.Of("authority.go", "signed(chain, parseCerts(a.bundle()))", "signed(chain, []*x509.Certificate{a.cert})"),
	"a rotation begins while the cluster does":    mutants.Of("rotation.go", "if p.in.Authorities != AuthorityExpected {", "if false {"),
	"a date is not waited for":                    mutants.Of("rotation.go", "if !p.now.Before(before) {", "if true {"),
	"a user's authority is not tried":             mutants.Of("given.go", "return p.trial(a)\n}", "return \"\"\n}"),
	"a user's certificate of anything is taken":   mutants.Of("given.go", "if wrong := unfit(a.cert); wrong != \"\" {", "if wrong := unfit(a.cert); false {"),
	"a user's chain is trusted whole":             mutants.Of("given.go", "secret: secret, pem: file,", "secret: secret, pem: from.Data[KeyCert],"),
	"a user's authority stands above the other":   mutants.Of("given.go", "if wrong := p.crossing(a.secret, a.cert, nil); wrong", "if wrong := \"\"; wrong"),
	"a user's key breaks every handshake":         mutants.Of("given.go", "if wrong := weakKey(cert); wrong != \"\" {\n\t\treturn nil, wrong", "if wrong := weakKey(cert); wrong == \"never\" {\n\t\treturn nil, wrong"),
	"a user's file is read whole":                 mutants.Of("given.go", "cmp.Or(excess(from.Data, KeyCert), excess(from.Data, KeyKey))", "cmp.Or(\"\", \"\")"),
	"a user's authority signs for both ports":     mutants.Of("given.go", "return bytes.Equal(cert.RawSubjectPublicKeyInfo, a.cert.RawSubjectPublicKeyInfo)\n\t}) {", "return false\n\t}) {"),
	"two authorities of a user have one subject":  mutants.Of("given.go", "case present != nil && !bytes", "case false && !bytes"),
	"the user's authority signs at once":          mutants.Of("rotation.go", "map[string][]byte{KeyNextCert: next.pem, KeyNextKey: from.Data[KeyKey]}", "map[string][]byte{KeyCert: next.pem, KeyKey: from.Data[KeyKey], KeyFormerCert: a.pem}"),
	"two authorities have one subject":            mutants.Of("authority.go", "hex.EncodeToString(number)", "hex.EncodeToString(nil)"),
}

// TestMutantsHaveTheirPlace wants what the mutants change to be there.
func TestMutantsHaveTheirPlace(t *testing.T) {
	mutants.Placed(t, rotationBreaches)
	mutants.Placed(t, issuedBreaches)
}

// TestRotationMutants runs the other tests of this package against each mutant.
func TestRotationMutants(t *testing.T) {
	mutants.Caught(t, rotationBreaches, "-run=^Test(Everybody|ARotation|When|ABroken|Trust|TheTime|AnAuthority|OneAuthority|OfAChain|TheUsers)")
}
