package sim

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/etcd/etcdtest"
	"github.com/quorate/quorate/internal/resources"
)

// runs of the random exploration, unless SIM_RUNS says otherwise.
const runs = 200

// TestRandomFaultsHealAndBreakNothing mixes faults for a while, mends the world,
// and wants a healthy cluster and no invariant broken. SIM_SEED repeats one run,
// SIM_RUNS makes more of them.
func TestRandomFaultsHealAndBreakNothing(t *testing.T) {
	first, n := uint64(1), runs/slower
	if seed := os.Getenv("SIM_SEED"); seed != "" {
		given, err := strconv.ParseUint(seed, 10, 64)
		if err != nil {
			t.Fatalf("SIM_SEED: %v", err)
		}
		first, n = given, 1
	}
	if many := os.Getenv("SIM_RUNS"); many != "" {
		given, err := strconv.Atoi(many)
		if err != nil {
			t.Fatalf("SIM_RUNS: %v", err)
		}
		n = given
	}
	began := time.Now()
	each(t, n, func(i int) error {
		seed := first + uint64(i)
		if err := explore(seed); err != nil {
			return fmt.Errorf("SIM_SEED=%d: %w", seed, err)
		}
		return nil
	})
	t.Logf("%d runs, %v", n, time.Since(began).Round(time.Millisecond))
}

// chaos is a random run.
type chaos struct {
	*World
	r *rand.Rand
	// lossy runs lose data too, and may end with a call for the user; forgetful
	// runs lose status. With both gone nothing would be left that tells a founded
	// cluster from a new one.
	lossy, forgetful bool
	size             int32
	// strangers are the URLs of members that were added by hand.
	strangers []string
}

func explore(seed uint64) error {
	c := &chaos{World: New(), r: rand.New(rand.NewPCG(seed, 1))}
	c.lossy, c.forgetful = c.r.IntN(5) == 0, c.r.IntN(5) == 0
	c.forgetful = c.forgetful && !c.lossy
	c.size = []int32{1, 3, 3, 5}[c.r.IntN(4)]
	c.Quantum = time.Duration(20+c.r.IntN(200)) * time.Millisecond
	c.ReplaceAfter = time.Duration(100+c.r.IntN(2000)) * time.Millisecond
	late := map[string]time.Duration{}
	c.StartDelay = func(pod string) time.Duration {
		if late[pod] == 0 {
			late[pod] = time.Duration(1+c.r.IntN(1500)) * time.Millisecond
		}
		return late[pod]
	}
	c.StartOperator()
	c.Apply(spec(c.size, func(s *v1alpha1.EtcdClusterSpec) {
		if c.r.IntN(3) > 0 {
			s.TLS.Mode = v1alpha1.TLSDisabled
		}
		s.TLS.RotationSoak = metav1.Duration{Duration: 30 * time.Second}
		if c.r.IntN(6) == 0 && !c.lossy {
			s.Storage.Medium = v1alpha1.MediumMemory
		}
	}))
	c.Hook = unreliable(seed, c.r.IntN(30))
	if c.r.IntN(2) == 0 {
		// Half of the runs know nothing but a founding under fire.
		c.Run(c.Healthy, 20*time.Second)
	}
	for range 5 + c.r.IntN(15) {
		c.disturb()
		c.For(time.Duration(c.r.IntN(1500)) * time.Millisecond)
	}
	return c.mend()
}

// unreliable lets calls fail by chance. The chance is a matter of the call's
// key, so that calls that are made at once fail alike in every run.
func unreliable(seed uint64, perMille int) Hook {
	return func(_ *Operator, c Call, m Moment) error {
		h := fnv.New64a()
		fmt.Fprintf(h, "%d %s", seed, c.Key)
		draw := rand.New(rand.NewPCG(h.Sum64(), 2))
		if draw.IntN(1000) >= perMille {
			return nil
		}
		return Faults[draw.IntN(len(Faults))].strike(c, m)
	}
}

// disturb does one bad thing.
func (c *chaos) disturb() {
	member := c.anyone()
	inMemory := c.Cluster().Spec.Storage.Medium == v1alpha1.MediumMemory
	acts := []func(){
		func() { c.Crash(member) },
		func() { c.Operator().Kill() },
		func() { c.cut(member) },
		func() { c.pauseFor(time.Duration(c.r.IntN(5000)) * time.Millisecond) },
		func() { c.deafen(time.Duration(c.r.IntN(8000)) * time.Millisecond) },
		func() {
			c.loseNode(fmt.Sprintf("node-%d", 1+c.r.IntN(3)), time.Duration(c.r.IntN(8000))*time.Millisecond)
		},
		func() { c.second() },
		func() {
			if services := c.API.all("Service"); len(services) > 0 {
				c.Delete(services[c.r.IntN(len(services))])
			}
		},
	}
	if !inMemory {
		// In memory each of these is a loss of data.
		acts = append(acts, func() { deletePod(c.World, member) }, func() { c.Evict(member) }, func() {
			for _, o := range c.API.all("Pod") {
				deletePod(c.World, o.GetName())
			}
		}, func() {
			c.powerOff(fmt.Sprintf("node-%d", 1+c.r.IntN(3)), time.Duration(c.r.IntN(20000))*time.Millisecond)
		})
	}
	if !c.forgetful {
		// Status alone tells which names were given away.
		acts = append(acts, c.resize, c.resize, c.foreign)
		if inMemory {
			acts = append(acts, func() { c.evictSpare(member) })
		}
	}
	if resources.TLS(c.Cluster()) && !inMemory {
		acts = append(acts, func() {
			c.Apply(func(s *v1alpha1.EtcdClusterSpec) { s.TLS.RotateCA = c.Clock.Now().UTC().Format(time.RFC3339) })
		})
	}
	if c.lossy {
		acts = append(acts, func() { deleteClaim(c.World, member) }, func() { c.wipe(member) }, func() { c.Corrupt(member) }, func() { c.removeByHand(member) })
	}
	if c.forgetful {
		acts = append(acts, func() { c.LoseStatus() })
	}
	acts[c.r.IntN(len(acts))]()
	c.wake()
}

// evictSpare evicts a member in memory where nothing else is lost: its data goes
// with it.
func (c *chaos) evictSpare(member string) {
	cluster := c.Cluster()
	healthy, voters, _ := c.check.healthyVoters(cluster)
	if cluster.Status.ClusterID != "" && voters >= 3 && healthy == voters {
		c.Evict(member)
	}
}

// anyone who has a pod or a claim.
func (c *chaos) anyone() string {
	var names []string
	for _, o := range append(c.API.all("PersistentVolumeClaim"), c.API.all("Pod")...) {
		names = append(names, o.GetLabels()[v1alpha1.LabelMember])
	}
	if len(names) == 0 {
		return "c-0000"
	}
	return names[c.r.IntN(len(names))]
}

// resize the cluster, once it is founded.
func (c *chaos) resize() {
	if c.Cluster().Status.ClusterID != "" {
		c.size = []int32{1, 3, 3, 5}[c.r.IntN(4)]
		c.Apply(func(s *v1alpha1.EtcdClusterSpec) { s.Size = c.size })
	}
}

// foreign adds somebody else's learner for a while.
func (c *chaos) foreign() {
	const url = "http://10.9.9.9:2380"
	if c.Cluster().Status.ClusterID == "" {
		return
	}
	c.AddByHand(url)
	c.After(time.Duration(c.r.IntN(8000))*time.Millisecond, func() { c.RemoveByHand(url) })
	c.strangers = append(c.strangers, url)
}

func (c *chaos) removeByHand(member string) {
	if c.Cluster().Status.ClusterID == "" {
		return
	}
	for _, scheme := range []string{"http", "https"} {
		c.RemoveByHand(scheme + strings.TrimPrefix(urlOf(member), "http"))
	}
}

// powerOff a node for a while.
func (c *chaos) powerOff(node string, d time.Duration) {
	c.PowerOff(node)
	c.After(d, func() { c.PowerOn(node) })
}

// wipe a volume whose member is on record, and let its process feel it.
func (c *chaos) wipe(member string) {
	claim := c.Claim(member)
	if claim == nil || claim.Annotations[v1alpha1.AnnotationMemberID] == "" || c.Cluster().Status.ClusterID == "" {
		return
	}
	c.Wipe(member, []WipeOf{WipeAll, WipeLog}[c.r.IntN(2)])
	c.Crash(member)
}

// cut a member off its peers or its clients for a while.
func (c *chaos) cut(member string) {
	pod := c.Pod(member)
	if pod == nil || c.nodes.runs[pod.UID] == nil || c.nodes.runs[pod.UID].process == nil {
		return
	}
	process := c.nodes.runs[pod.UID].process
	network := []etcdtest.Network{etcdtest.Peers, etcdtest.Clients}[c.r.IntN(2)]
	c.note("%s is cut from its %s", member, network)
	c.Etcd.Cut(process, network)
	c.After(time.Duration(c.r.IntN(8000))*time.Millisecond, func() {
		c.note("%s is connected to its %s", member, network)
		c.Etcd.Mend(process, network)
	})
}

func (c *chaos) pauseFor(d time.Duration) {
	c.Apply(func(s *v1alpha1.EtcdClusterSpec) { s.Paused = true })
	c.After(d, func() { c.Apply(func(s *v1alpha1.EtcdClusterSpec) { s.Paused = false }) })
}

// deafen the caches of the operator for a while.
func (c *chaos) deafen(d time.Duration) {
	op := c.Operator()
	kinds := []string{"Pod", "PersistentVolumeClaim", "EtcdCluster", "Service", "Node"}
	c.r.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	op.Lag([]int{1, 2, 5, 1 << 30}[c.r.IntN(4)], kinds[:1+c.r.IntN(len(kinds))]...)
	c.After(d, op.Release)
}

func (c *chaos) loseNode(node string, d time.Duration) {
	c.SetNodeReady(node, corev1.ConditionUnknown)
	c.After(d, func() { c.SetNodeReady(node, corev1.ConditionTrue) })
}

// second starts another operator beside the one that runs, for a while.
func (c *chaos) second() {
	alive := 0
	for _, op := range c.operators {
		if !op.dead.Load() {
			alive++
		}
	}
	if alive != 1 {
		return
	}
	first := c.Operator()
	c.StartOperator()
	c.After(time.Duration(c.r.IntN(4000))*time.Millisecond, first.Kill)
}

// mend ends all faults and waits for the end.
func (c *chaos) mend() error {
	c.Hook = nil
	c.note("no more faults")
	c.check.disturbed()
	c.Run(func() bool { return !c.busy() }, time.Minute)
	for _, url := range c.strangers {
		c.Run(func() bool { return c.Etcdctl() != nil }, time.Minute)
		c.RemoveByHand(url)
	}
	over := func() bool { return c.Healthy() && (!resources.TLS(c.Cluster()) || rotated(c.World, time.Time{})) }
	ok := c.Run(func() bool { return over() && !c.busy() }, patience)
	if !ok && c.lossy {
		// More was lost than can be mended without the user.
		ok = c.calling() || c.tellsLoss()
	}
	if c.Healthy() {
		c.Run(c.Compared, 2*time.Minute)
	}
	before := c.Operator().writes
	if !c.lossy || c.Healthy() {
		c.For(30 * time.Second)
		c.check.atRest()
	}
	written := c.Operator().writes - before
	if v := c.Violations(); !ok || written > 0 || len(v) > 0 {
		return fmt.Errorf("ended %v, %d writes at rest, broke %v\n%s", ok, written, v, c.Notes(noteLines()))
	}
	return nil
}
