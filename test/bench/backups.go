package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/test/soak/testbed"
)

// Limits of a backup of 1 GiB at the default rate, and of a cluster that begins with it.
const (
	restoreLimit = 60 * time.Second
	latencyLimit = 1.5
)

const (
	s3Port = 17900
	// latencyEvery is how often each of three writers writes while latency is measured.
	latencyEvery = 20 * time.Millisecond
	// quietFor is how long latency is measured before and after a backup: longer than three
	// writers take for the 10,000 writes of etcd's snapshot-count, which holds writes up.
	quietFor = 70 * time.Second
	// enough writes to tell of one in 100.
	enough = 100
	// askEvery is how often the backup is asked for while latency is measured: a hundred
	// times a second takes a third of a processor from those that are measured.
	askEvery = 500 * time.Millisecond
	// backupTimeout is more than twice what 1.2 GiB take at the default rate, read and read back in
	// turns, and many times what it takes to try them out.
	backupTimeout = 14 * time.Minute
)

// backups saves a cluster that holds 1 GiB to a real S3 server while it is written to,
// and begins another cluster with that.
func (b *bench) backups(ctx context.Context) (bool, error) {
	store, stop, err := b.store(ctx)
	if err != nil {
		return false, err
	}
	defer stop()
	q := newLarge(b.bed, "saved")
	if err := found(ctx, q); err != nil {
		return false, err
	}
	if err := fill(ctx, q); err != nil {
		return false, err
	}
	measured, err := b.whileSaved(ctx, q, store)
	if err != nil {
		return false, errors.Join(err, b.warnings(q))
	}
	gentle := measured.print()
	printUnlimited("1 GiB saved at the default rate", []time.Duration{measured.took})
	restored, err := b.restore(ctx)
	if err != nil {
		return false, err
	}
	ok := printMedian("1 GiB restored → three voters Ready", []time.Duration{restored}, restoreLimit)
	return ok && gentle, q.remove(ctx)
}

// backupName is the one that is measured, and restored.
const backupName = "large"

// saving is what was measured of a backup.
type saving struct {
	// took is how long it was until the backup was complete, without the time that it stood still.
	took time.Duration
	// quiet is what writes took before and after it.
	quiet []time.Duration
	// phases until it was verified.
	phases []phase
}

// phase of a backup: busy is what writes took, and still what they took while the processes of its
// Jobs stood still meanwhile, which is what busy is compared with.
type phase struct {
	name        string
	busy, still []time.Duration
	// ran is how long it took, without the time that it stood still.
	ran time.Duration
}

// ratio of the one to the other.
func (p *phase) ratio() float64 { return slowest(p.busy).Seconds() / slowest(p.still).Seconds() }

// print both, and the limit if there is one.
func (p *phase) print(limit string) {
	fmt.Printf("%-44s %7.1f ms %7.1f ms %6.2fx%s\n", "99th write in 100, stopped and "+p.name,
		slowest(p.still).Seconds()*1e3, slowest(p.busy).Seconds()*1e3, p.ratio(), limit)
}

// print says whether the limit is kept.
func (s *saving) print() bool {
	whole := &phase{name: "in all"}
	for _, p := range s.phases {
		p.print("")
		whole.busy, whole.still = slices.Concat(whole.busy, p.busy), slices.Concat(whole.still, p.still)
	}
	whole.print(fmt.Sprintf(" %6.2fx%s", latencyLimit, above(whole.ratio(), latencyLimit)))
	fmt.Printf("%-44s %7.1f ms\n", "99th write in 100, before and after it", slowest(s.quiet).Seconds()*1e3)
	fmt.Printf("%-44s %7.1f ms %7.1f ms\n", "the longest write, stopped and in all",
		slices.Max(whole.still).Seconds()*1e3, slices.Max(whole.busy).Seconds()*1e3)
	return whole.ratio() <= latencyLimit
}

// whileSaved measures a backup, and the time before and after it.
func (b *bench) whileSaved(ctx context.Context, q *quorate, store v1alpha1.BackupStore) (*saving, error) {
	s := &saving{}
	quiet := func() error {
		writes, err := b.latencies(ctx, q, func(ctx context.Context) error { return pause(ctx, quietFor) })
		if err != nil {
			return fmt.Errorf("without a backup: %w", err)
		}
		_, took := split(writes, nil)
		tell(took, "without a backup")
		s.quiet = append(s.quiet, took...)
		return nil
	}
	if err := quiet(); err != nil {
		return nil, err
	}
	if err := b.whileBusy(ctx, q, store, s); err != nil {
		return nil, err
	}
	return s, quiet()
}

// whileBusy measures a backup, until it is verified.
func (b *bench) whileBusy(ctx context.Context, q *quorate, store v1alpha1.BackupStore, s *saving) error {
	saved, err := b.inPhase(ctx, q, "saved", func(ctx context.Context) error { return b.backup(ctx, q, store) })
	if err != nil {
		return err
	}
	tried, err := b.inPhase(ctx, q, "tried out", func(ctx context.Context) error { return b.reaches(ctx, backupName, v1alpha1.ConditionVerified) })
	s.took, s.phases = saved.ran, []phase{saved, tried}
	return err
}

// inPhase measures what writes take while do goes on in turns.
func (b *bench) inPhase(ctx context.Context, q *quorate, name string, do func(context.Context) error) (p phase, err error) {
	var stood []span
	p.name = name
	writes, err := b.latencies(ctx, q, func(ctx context.Context) error {
		began := time.Now()
		turning, stop := context.WithCancel(ctx)
		var stopping error
		var turns sync.WaitGroup
		turns.Go(func() { stood, stopping = b.inTurns(turning) })
		err := do(ctx)
		ended := time.Now()
		stop()
		turns.Wait()
		p.ran = ended.Sub(began) - length(stood, ended)
		return errors.Join(err, stopping)
	})
	if err != nil {
		return p, fmt.Errorf("while the backup is %s: %w", name, err)
	}
	p.still, p.busy = split(writes, stood)
	if min(len(p.still), len(p.busy)) < enough {
		return p, fmt.Errorf("while the backup is %s: %d writes, and %d while it stood still, are too few to tell of one in 100", name, len(p.busy), len(p.still))
	}
	tell(p.busy, "while it was "+name)
	tell(p.still, "while it stood still")
	return p, nil
}

// tell what writes took, as soon as it is known.
func tell(took []time.Duration, when string) {
	const tenth = 100 * time.Microsecond
	progress("99 of 100 writes took %s at most %s, and the longest %s", slowest(took).Round(tenth), when, slices.Max(took).Round(tenth))
}

// warnings of the members and of the Jobs, which say what held up a write that failed.
func (b *bench) warnings(q *quorate) error {
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	pods, err := b.bed.API.CoreV1().Pods(q.cluster.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("listing pods: %w", err)
	}
	var failed []error
	for _, pod := range pods.Items {
		said, err := b.bed.API.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{SinceSeconds: new(int64(backupTimeout.Seconds()))}).DoRaw(ctx)
		failed = append(failed, err)
		for line := range strings.Lines(string(said)) {
			if !strings.Contains(line, `"level":"info"`) && !strings.Contains(line, "level=INFO") {
				progress("%s: %s", pod.Name, strings.TrimRight(line, "\n"))
			}
		}
	}
	return errors.Join(failed...)
}

// store is an S3 server, with the Secret to reach it.
func (b *bench) store(ctx context.Context) (v1alpha1.BackupStore, func(), error) {
	// In memory: a store is elsewhere, and does not write to the members' disk.
	dir, err := os.MkdirTemp("/dev/shm", "quorate-bench-")
	if err != nil {
		return v1alpha1.BackupStore{}, nil, fmt.Errorf("making a directory for the store: %w", err)
	}
	log, err := os.Create(dir + "/log") //nolint:gosec // a fresh directory of this process
	if err != nil {
		return v1alpha1.BackupStore{}, nil, fmt.Errorf("making the log of the store: %w", err)
	}
	endpoint, end, err := testbed.StartS3(".", s3Port, dir, log)
	stop := func() {
		if end != nil {
			end()
		}
		_ = errors.Join(log.Close(), os.RemoveAll(dir))
	}
	if err != nil {
		stop()
		return v1alpha1.BackupStore{}, nil, err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "s3"},
		StringData: map[string]string{"AWS_ACCESS_KEY_ID": testbed.S3KeyID, "AWS_SECRET_ACCESS_KEY": testbed.S3Secret},
	}
	if err := b.c.Create(ctx, secret); err != nil {
		stop()
		return v1alpha1.BackupStore{}, nil, fmt.Errorf("making the store's Secret: %w", err)
	}
	return v1alpha1.BackupStore{S3: &v1alpha1.S3Store{
		Endpoint: endpoint, Bucket: "backups", CredentialsSecretRef: &v1alpha1.SecretReference{Name: secret.Name},
	}}, stop, nil
}

// slowest is what 99 of 100 writes took at most.
func slowest(took []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(took))[len(took)*99/100]
}

// latencies is what each write took while do went on: three writers, one for each member,
// that write small values at a steady rate.
func (b *bench) latencies(ctx context.Context, q *quorate, do func(context.Context) error) ([]write, error) {
	voters, err := q.reached.Voters(ctx)
	if err != nil {
		return nil, err
	}
	writing, stop := context.WithCancel(ctx)
	defer stop()
	took, failed := make([][]write, len(voters)), make([]error, len(voters))
	var writers sync.WaitGroup
	for i, voter := range voters {
		cl, err := q.reached.Client(ctx, voter)
		if err != nil {
			return nil, err
		}
		defer func() { _ = cl.Close() }()
		writers.Go(func() { took[i], failed[i] = writeSteadily(writing, cl, i) })
	}
	err = do(ctx)
	stop()
	writers.Wait()
	all := slices.Concat(took...)
	if err := errors.Join(err, errors.Join(failed...)); err != nil {
		return nil, fmt.Errorf("after %d writes: %w", len(all), err)
	}
	if len(all) < enough {
		return nil, fmt.Errorf("%d writes are too few to tell of one in 100", len(all))
	}
	return all, nil
}

func writeSteadily(ctx context.Context, cl *clientv3.Client, writer int) (took []write, err error) {
	due := time.NewTicker(latencyEvery)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return took, nil
		case <-due.C:
		}
		began := time.Now()
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepTimeout)
		_, err := cl.Put(bounded, fmt.Sprintf("latency/%d/%d", writer, len(took)%100), "v")
		cancel()
		if err != nil {
			return took, fmt.Errorf("writer %d: %w", writer, err)
		}
		took = append(took, write{began, time.Since(began)})
	}
}

// backup makes one, and returns when it is complete.
func (b *bench) backup(ctx context.Context, q *quorate, store v1alpha1.BackupStore) error {
	backup := &v1alpha1.EtcdBackup{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: backupName},
		Spec: v1alpha1.EtcdBackupSpec{
			ClusterRef: v1alpha1.ClusterReference{Name: q.cluster.Name}, Store: store,
		},
	}
	if err := b.c.Create(ctx, backup); err != nil {
		return fmt.Errorf("making a backup: %w", err)
	}
	return b.reaches(ctx, backupName, v1alpha1.ConditionComplete)
}

// reaches returns when the condition of the backup is true.
func (b *bench) reaches(ctx context.Context, name, condition string) error {
	backup := &v1alpha1.EtcdBackup{}
	return untilEvery(ctx, backupTimeout, askEvery, func(ctx context.Context) (bool, error) {
		if err := b.c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, backup); err != nil {
			return false, err
		}
		if is := meta.FindStatusCondition(backup.Status.Conditions, v1alpha1.ConditionStalled); is != nil && is.Status == metav1.ConditionTrue {
			return false, fmt.Errorf("the backup failed: %s", is.Message)
		}
		return meta.IsStatusConditionTrue(backup.Status.Conditions, condition), nil
	})
}

// restore begins a cluster with the backup.
func (b *bench) restore(ctx context.Context) (time.Duration, error) {
	q := newLarge(b.bed, "restored")
	q.cluster.Spec.RestoreFrom = &v1alpha1.RestoreSource{BackupName: backupName}
	began := time.Now()
	if err := q.apply(ctx); err != nil {
		return 0, fmt.Errorf("applying cluster %s: %w", q.cluster.Name, err)
	}
	if err := until(ctx, q.ready); err != nil {
		return 0, fmt.Errorf("waiting for %s: %w", q.cluster.Name, err)
	}
	took := time.Since(began)
	if err := healthy(ctx, q.reached); err != nil {
		return took, err
	}
	return took, q.remove(ctx)
}
