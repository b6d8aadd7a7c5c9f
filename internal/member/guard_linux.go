package member

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"
)

// timings are the guard's intervals and bounds.
type timings struct {
	// annotations: how long to wait for a readable file, and how often to look.
	// The kubelet writes it before the container starts, so it is there, or wrong.
	annotationsBound, annotationsEvery time.Duration
	lockBound, lockEvery               time.Duration
	// release: how often a held member looks for its release.
	releaseEvery time.Duration
	// name: etcd's own resolver tries again after a second only, and its failure
	// ends the process; looking every few milliseconds beforehand is cheaper.
	nameBound, nameEvery time.Duration
	// boot: how often a first boot that failed is repeated. A restart of the
	// container would wait for 10 s after the first failure, and longer each time.
	bootBound, bootPause time.Duration
	bootAttempts         int
	// log: how often a first boot is watched for its write-ahead log, at first and
	// at last. A look costs some microseconds and the last one is the first that
	// succeeds; until then a crash that also takes the log goes unnoticed.
	logEvery, logEveryAtMost time.Duration
	probes                   bounds
}

var defaultTimings = timings{
	annotationsBound: 30 * time.Second, annotationsEvery: 100 * time.Millisecond,
	lockBound: 10 * time.Second, lockEvery: 100 * time.Millisecond,
	releaseEvery: 50 * time.Millisecond,
	nameBound:    10 * time.Second, nameEvery: 75 * time.Millisecond,
	bootBound: 5 * time.Minute, bootPause: time.Second, bootAttempts: 60,
	logEvery: 10 * time.Millisecond, logEveryAtMost: 100 * time.Millisecond,
	// The kubelet asks /readyz every second and gives up at the third failure: a
	// member that cannot serve is taken out of the Service in less than 5 s. It
	// waits for 5 s at most, so /livez has to answer within that.
	probes: bounds{
		question: 5 * time.Second, readyPatience: time.Second, livePatience: 4 * time.Second,
		grace: time.Minute, stall: 5 * time.Minute,
	},
}

// guard is one run of "member run".
type guard struct {
	Config
	timings
	place
	log     *slog.Logger
	health  *health
	relay   *relay
	lock    *os.File
	resolve func(ctx context.Context, host string) error
	// words are those of the etcd that ended last.
	words *lastWords
}

// Run guards and runs etcd until it ends, and returns the exit code for the
// process: etcd's own (128+n if signal n ended it), or one of the Exit constants.
// The termination log then holds one line that says why, unless etcd was told to
// stop or said nothing.
func Run(ctx context.Context, config Config, log *slog.Logger) int {
	return newGuard(config, defaultTimings, log).run(ctx)
}

func newGuard(config Config, t timings, log *slog.Logger) *guard {
	return &guard{
		Config:  config,
		timings: t,
		place:   place{volume: config.Volume, dataDir: config.DataDir, bootDir: config.BootDir, identity: config.Identity},
		log:     log,
		health:  newHealth(config.EtcdHealth, newClients(config.EtcdClients, config.ClientsCert, config.ClientsKey), t.probes),
		resolve: lookUp,
	}
}

func lookUp(ctx context.Context, host string) error {
	// A server that does not answer must not use up the whole waiting time.
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err := net.DefaultResolver.LookupHost(ctx, host)
	return err
}

func (g *guard) run(ctx context.Context) int {
	relay, ctx, release := newRelay(ctx)
	defer release()
	g.relay = relay
	code, err := g.guard(ctx)
	var stopped *stoppedError
	var refused *refusal
	switch {
	case err == nil:
		return g.ended(code)
	case errors.As(err, &stopped):
		g.log.Info("Stopped before etcd was started", "signal", int(stopped.signal))
		return 128 + int(stopped.signal)
	case !errors.As(err, &refused):
		refused = &refusal{ReasonVolumeUnusable, err.Error()}
	}
	g.log.Error("Not starting etcd", "reason", string(refused.reason), "message", refused.text)
	g.leaveMessage(refused.Error())
	return refused.reason.ExitCode()
}

// ended tells what etcd said of its end, and returns the guard's exit code.
func (g *guard) ended(code int) int {
	reason := g.words.reason()
	if reason == "" {
		return code
	}
	message := g.obituary(reason, code, g.words.String())
	g.log.Error("Etcd gave up", "reason", string(reason), "code", code, "message", message)
	g.leaveMessage(message)
	if reason == ReasonRemoved {
		return ExitRemoved
	}
	return code
}

func (g *guard) leaveMessage(message string) {
	if err := os.WriteFile(g.TerminationLog, []byte(oneLine(message)), 0o644); err != nil {
		g.log.Warn("Writing the termination message", "error", err.Error())
	}
}

// guard goes from the first look to etcd's end. A nil error means that etcd ran,
// and code is its exit code.
func (g *guard) guard(ctx context.Context) (code int, err error) {
	listener, err := net.Listen("tcp", g.HealthListen)
	if err != nil {
		return 0, &refusal{ReasonNotListening, fmt.Sprintf("%v — the kubelet could not probe the member — check what else uses the address", err)}
	}
	defer g.health.serve(listener)()
	if err := g.takeVolume(ctx); err != nil {
		return 0, err
	}
	defer g.lock.Close()
	begin := time.Now()
	for attempt := 1; ; attempt++ {
		orders, decision, err := g.decide(ctx)
		if err != nil {
			return 0, err
		}
		if attempt == 1 && decision.Action != StartOnData {
			g.awaitName(ctx)
			// The orders may have changed meanwhile.
			if orders, decision, err = g.decide(ctx); err != nil {
				return 0, err
			}
		}
		code, err := g.boot(ctx, orders, decision)
		if err != nil || !g.bootFailed(ctx, decision, code) {
			return code, err
		}
		if attempt >= g.bootAttempts || time.Since(begin) >= g.bootBound {
			g.log.Error("The first boot failed too often", "attempts", attempt, "code", code)
			return code, nil
		}
		g.log.Warn("The first boot failed, trying again", "attempt", attempt, "code", code)
		if err := pause(ctx, g.bootPause); err != nil {
			return 0, err
		}
	}
}

// takeVolume locks the volume and makes sure of the boot directory.
func (g *guard) takeVolume(ctx context.Context) (err error) {
	g.lock, err = lockVolume(ctx, g.volume, g.lockEvery, g.lockBound)
	if errors.Is(err, errLocked) {
		return &refusal{ReasonLocked, fmt.Sprintf("volume %s of member %s is used by another process for %v — two etcd processes of one identity would corrupt the data — "+
			"end the other pod that mounts the volume", g.identity.VolumeUID, g.identity.Member, g.lockBound)}
	}
	var stopped *stoppedError
	if err == nil {
		err = os.MkdirAll(g.bootDir, 0o770)
	}
	if err != nil && !errors.As(err, &stopped) {
		return g.refuse(ReasonVolumeUnusable, findings{seen: oneLine(err.Error())})
	}
	return err
}

// decide reads the orders, looks at the volume and asks Decide, again after a hold
// has ended. It returns only decisions to start.
func (g *guard) decide(ctx context.Context) (Annotations, Decision, error) {
	for {
		orders, err := g.awaitAnnotations(ctx)
		if err != nil {
			return Annotations{}, Decision{}, err
		}
		found := g.inspect(orders)
		decision := Decide(found.Facts)
		switch decision.Action {
		case Refuse:
			return Annotations{}, decision, g.refuse(decision.Reason, found)
		case Wait:
			if err := g.awaitRelease(ctx); err != nil {
				return Annotations{}, decision, err
			}
		default:
			return orders, decision, nil
		}
	}
}

func (g *guard) awaitAnnotations(ctx context.Context) (orders Annotations, err error) {
	err = poll(ctx, g.annotationsEvery, g.annotationsBound, func() (err error) {
		orders, err = ReadAnnotations(g.Annotations)
		return err
	})
	var stopped *stoppedError
	if err == nil || errors.As(err, &stopped) {
		return orders, err
	}
	return orders, &refusal{ReasonNoAnnotations, fmt.Sprintf("%v, for %v — they say with whom the member forms a cluster and whether its volume may be empty — "+
		"check that the operator runs and that nobody else changes the pod's annotations", err, g.annotationsBound)}
}

// errHeld: the release has not come.
var errHeld = errors.New("held")

// awaitRelease keeps the pod alive and not ready until the operator has added the
// member to etcd's list. There is no bound: the operator decides how long.
func (g *guard) awaitRelease(ctx context.Context) error {
	g.health.enter(phaseHeld)
	g.log.Info("Held, waiting for the release", "annotation", AnnotationRelease)
	var released Annotations
	var unreadable string
	err := poll(ctx, g.releaseEvery, 0, func() (err error) {
		released, err = ReadAnnotations(g.Annotations)
		if err == nil && released.Held() {
			return errHeld
		}
		if err != nil && err.Error() != unreadable {
			unreadable = err.Error()
			g.log.Warn("Still held, the annotations cannot be read", "error", unreadable)
		}
		return err
	})
	if err != nil {
		return err
	}
	g.health.enter(phaseReleased)
	g.log.Info("Released", "memberID", fmt.Sprintf("%x", released.Release))
	return nil
}

// awaitName waits until the member's own name resolves, and goes on without it in
// the end: etcd looks itself.
func (g *guard) awaitName(ctx context.Context) {
	if g.PeerHost == "" {
		return
	}
	err := poll(ctx, g.nameEvery, g.nameBound, func() error { return g.resolve(ctx, g.PeerHost) })
	if err != nil && ctx.Err() == nil {
		g.log.Warn("The member's own name does not resolve yet", "host", g.PeerHost, "error", err.Error())
	}
}

// boot carries the decision out and returns etcd's exit code.
func (g *guard) boot(ctx context.Context, orders Annotations, decision Decision) (code int, err error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if err := g.prepare(decision); err != nil {
		return 0, g.refuse(ReasonVolumeUnusable, findings{seen: oneLine(err.Error())})
	}
	etcd, err := start(g.etcdArguments(orders), g.lock)
	if err != nil {
		return 0, &refusal{ReasonNotStarted, fmt.Sprintf("%v — the member cannot run — check the image", err)}
	}
	g.relay.attach(etcd)
	defer g.relay.detach()
	g.health.enter(phaseRunning)
	g.log.Info("Started etcd", "pid", etcd.process.Pid, "firstBoot", decision.Action != StartOnData,
		"initialClusterState", orders.EffectiveClusterState())
	g.watch(etcd)
	g.words = &etcd.words
	return etcd.code, nil
}

// prepare leaves the volume claimed by this member. Nothing may start on a volume
// whose claim is not on disk: the claim is what later tells it from another's.
func (g *guard) prepare(decision Decision) error {
	if decision.Action == StartOnData {
		// A pod that was made anew on its volume lacks the mark of its own. The
		// data is there, so failing to record it is no reason not to start.
		if _, err := g.recordBoot(); err != nil {
			g.log.Warn("Recording that etcd has booted", "error", err.Error())
		}
		return nil
	}
	if decision.Action == DiscardAndStart {
		if err := g.discard(); err != nil {
			return err
		}
		g.log.Warn("Moved the leftovers of a failed first boot aside")
	}
	return WriteMarker(g.volume, Marker{Identity: g.identity})
}

// watch waits for etcd's end, and records meanwhile, and once more at the end, that
// it has booted.
func (g *guard) watch(etcd *child) {
	every := g.logEvery
	var failed string
	for {
		recorded, err := g.recordBoot()
		if err != nil && err.Error() != failed {
			failed = err.Error()
			g.log.Warn("Recording that etcd has booted", "error", failed)
		}
		if recorded {
			<-etcd.done
			return
		}
		timer := time.NewTimer(every)
		select {
		case <-etcd.done:
			timer.Stop()
			if _, err := g.recordBoot(); err != nil {
				g.log.Warn("Recording that etcd has booted", "error", err.Error())
			}
			return
		case <-timer.C:
			every = min(every*5/4, g.logEveryAtMost)
		}
	}
}

// recordBoot sets both marks once a write-ahead log exists. They are witnesses
// against a later empty directory, so one without the other is worth having: the
// first failure does not prevent the second attempt.
func (g *guard) recordBoot() (recorded bool, err error) {
	log, err := listLog(filepath.Join(g.dataDir, "member", "wal"))
	if err != nil || log.files == 0 {
		return false, err
	}
	booted := Marker{Identity: g.identity, Booted: true}
	stored, err := readMarker(filepath.Join(g.volume, MarkerFile))
	if err == nil && stored != booted {
		err = WriteMarker(g.volume, booted)
	}
	marked, errMark := exists(filepath.Join(g.bootDir, BootMarkFile))
	if errMark == nil && !marked {
		errMark = writeDurably(filepath.Join(g.bootDir, BootMarkFile), booted)
	}
	err = errors.Join(err, errMark)
	return err == nil, err
}

// bootFailed reports whether etcd ended in the way of a first boot whose peers or
// names were not there yet: before its write-ahead log, but after it began to lay
// out its directory. A wrong flag ends it earlier, and is not tried again here: the
// user should see it at once.
func (g *guard) bootFailed(ctx context.Context, decision Decision, code int) bool {
	if decision.Action == StartOnData || code == 0 || ctx.Err() != nil {
		return false
	}
	state, _, err := dataState(g.dataDir)
	return err == nil && state == DataLeftovers
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
