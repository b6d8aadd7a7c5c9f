package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/test/soak/testbed"
)

const (
	// watchEvery is how often promises that hold at all times are looked at.
	watchEvery = time.Second
	// away is how long no operator may work after its working replica was
	// killed, or has lost its node: its Lease has to run out first.
	away = 45 * time.Second
	// shownBroken is how many broken promises are told; all are counted.
	shownBroken = 10
)

// watch looks at what must be true at all times: a cluster that says it is
// available takes writes, and no member runs twice.
type watch struct {
	s    *soak
	stop context.CancelFunc
	done sync.WaitGroup

	mu       sync.Mutex
	broken   []string
	count    int
	looks    int
	kills    int
	excused  time.Time // until when nobody may tell the truth
	restarts map[string]int32
	total    int
}

func (s *soak) startWatch(ctx context.Context) *watch {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	w := &watch{s: s, stop: stop, restarts: map[string]int32{}}
	w.done.Go(func() {
		for pause(ctx, watchEvery) == nil {
			w.look(ctx)
		}
	})
	return w
}

func (w *watch) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	w.operator(ctx)
	for _, x := range w.s.subjects {
		w.available(ctx, x)
	}
	w.twice()
	w.mu.Lock()
	w.looks++
	w.mu.Unlock()
}

func (w *watch) breaks(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count++
	if len(w.broken) < shownBroken {
		w.broken = append(w.broken, time.Now().Format("15:04:05 ")+fmt.Sprintf(format, args...))
	}
}

// available: Available=True means that a probe succeeded in the last 15 s; so
// writes cannot have failed for longer than twice that.
func (w *watch) available(ctx context.Context, x *subject) {
	now := time.Now()
	gap := x.load.Gap(now.Add(-time.Second), now)
	object, err := x.Get(ctx)
	if err != nil {
		return
	}
	w.mu.Lock()
	excused := now.Before(w.excused)
	w.mu.Unlock()
	available := meta.FindStatusCondition(object.Status.Conditions, v1alpha1.ConditionAvailable)
	if !excused && gap.Open && gap.Length() > 2*promised && available != nil && available.Status == metav1.ConditionTrue {
		w.breaks("%s says that it is available, and has acknowledged nothing for %s", x.Name, gap.Length().Round(time.Second))
	}
}

// twice: processes of two pods that bear one identity.
func (w *watch) twice() {
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return
	}
	runs := map[string][]string{}
	for _, path := range found {
		command, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(command, []byte(testbed.Etcd+"\x00")) {
			continue
		}
		for argument := range bytes.SplitSeq(command, []byte{0}) {
			if url, is := bytes.CutPrefix(argument, []byte("--initial-advertise-peer-urls=")); is {
				runs[string(url)] = append(runs[string(url)], filepath.Base(filepath.Dir(path)))
			}
		}
	}
	for url, pids := range runs {
		if len(pids) > 1 {
			slices.Sort(pids)
			w.breaks("two processes run as %s: %v", url, pids)
		}
	}
}

// operator counts restarts of the operator's containers.
func (w *watch) operator(ctx context.Context) {
	var pods corev1.PodList
	err := w.s.Kube.List(ctx, &pods, client.InNamespace(operatorNamespace), client.MatchingLabels{"app.kubernetes.io/name": operatorName})
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	ready := 0
	for _, pod := range pods.Items {
		if testbed.Ready(pod) {
			ready++
		}
		for _, c := range pod.Status.ContainerStatuses {
			key := string(pod.UID) + "/" + c.Name
			if was, known := w.restarts[key]; known && c.RestartCount > was {
				w.total += int(c.RestartCount - was)
			}
			w.restarts[key] = c.RestartCount
		}
	}
	if ready < len(pods.Items) {
		w.excused = time.Now().Add(away)
	}
}

// operatorKilled excuses a while without an operator.
func (w *watch) operatorKilled() {
	w.excuse()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kills++
}

// excuse a while in which no operator works.
func (w *watch) excuse() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.excused = time.Now().Add(away)
}

func (w *watch) end(r *Report) {
	w.stop()
	w.done.Wait()
	r.OperatorKills, r.OperatorRestarts, r.Looks = w.kills, w.total, w.looks
	for _, b := range w.broken {
		r.fail("%s", b)
	}
	if w.count > len(w.broken) {
		r.fail("%d more broken promises", w.count-len(w.broken))
	}
}
