// Command demo goes from nothing to a real etcd cluster in a real Kubernetes and
// shows it at work. Everything that it does can be done by hand: it prints the
// commands. A second run finds everything in place and takes seconds.
//
//	make demo                     three nodes on this machine
//	make demo CLUSTER=existing    the cluster that KUBECONFIG names
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	sample = "config/samples/etcdcluster.yaml"
	name   = "etcd-cluster"
	value  = "Yeah, it works"
	// members selects the cluster's pods.
	members = "etcd.quorate.dev/cluster=" + name
	// longest is how long the cluster may take to become Ready; a machine that
	// is busy with something else takes its time.
	longest = 5 * time.Minute
)

// unsuited is a system on which the demo cannot run: exit code 2.
type unsuited struct{ why string }

func (u unsuited) Error() string { return u.why }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "demo:", err)
	if _, ok := errors.AsType[unsuited](err); ok {
		os.Exit(2)
	}
	os.Exit(1)
}

func run(ctx context.Context) error {
	d, err := prepare()
	if err != nil {
		return err
	}
	for _, part := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"Kubernetes: " + d.where(), d.kubernetes},
		{"The operator: images, CRD, RBAC, Deployment of two replicas", d.operator},
		{"An etcd cluster: " + sample, d.cluster},
		{"What runs", d.show},
		{"A leader: three replicas with the leader-elector beside them", d.election},
	} {
		fmt.Printf("\n==> %s\n", part.title)
		start := time.Now()
		if err := part.do(ctx); err != nil {
			return err
		}
		fmt.Printf("    done in %s\n", seconds(time.Since(start)))
	}
	d.close()
	return nil
}

// demo is where it runs, and what it has learned on the way.
type demo struct {
	root     string
	existing bool
	kubectl  string
	// created says that this run made the etcd cluster; ready is how long it
	// took from apply to Ready then.
	created bool
	ready   time.Duration
	// first is the cluster's first member.
	first string
	// elects says that the leader-elector was shown.
	elects bool
}

// prepare finds out where to run, and whether that is possible at all.
func prepare() (*demo, error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("finding the repository: %w", err)
	}
	if _, err := os.Stat(filepath.Join(root, sample)); err != nil {
		return nil, unsuited{"there is no " + sample + " here — everything is built from the repository — run make demo in its root"}
	}
	d := &demo{root: root, existing: os.Getenv("CLUSTER") == "existing", kubectl: filepath.Join(root, ".cluster", "bin", "kubectl")}
	const instead = "use a cluster that you have: KUBECONFIG=... make demo CLUSTER=existing OPERATOR_IMAGE=... MEMBER_IMAGE=... BACKUP_IMAGE=..."
	switch {
	case d.existing && os.Getenv("KUBECONFIG") == "":
		return nil, unsuited{"KUBECONFIG is not set — with CLUSTER=existing it names the cluster to use, and the demo takes no other — export KUBECONFIG=/path/to/kubeconfig"}
	case d.existing:
		if own, err := exec.LookPath("kubectl"); err == nil {
			d.kubectl = own
		} else if _, err := os.Stat(d.kubectl); err != nil {
			return nil, unsuited{"there is no kubectl in PATH — the demo drives your cluster with it — install kubectl"}
		}
	case runtime.GOOS != "linux":
		return nil, unsuited{fmt.Sprintf("this is %s — the local Kubernetes needs root on a Debian-like Linux — %s", runtime.GOOS, instead)}
	case os.Geteuid() != 0:
		return nil, unsuited{fmt.Sprintf("this runs as user %d — the local Kubernetes needs root on a Debian-like Linux — %s", os.Geteuid(), instead)}
	default:
		// For every command from here on.
		if err := os.Setenv("KUBECONFIG", filepath.Join(root, ".cluster", "kubeconfig")); err != nil {
			return nil, fmt.Errorf("naming the cluster: %w", err)
		}
	}
	return d, nil
}

func (d *demo) where() string {
	if d.existing {
		return "yours, from KUBECONFIG=" + os.Getenv("KUBECONFIG")
	}
	return "three nodes on this machine (the first time it is built from source, which takes minutes)"
}

func (d *demo) kubernetes(ctx context.Context) error {
	if !d.existing {
		if err := d.stream(ctx, "make", "cluster-up"); err != nil {
			return err
		}
	} else if _, err := d.output(ctx, "version"); err != nil {
		return unsuited{"no cluster answers: " + lastLine(err.Error()) + " — the demo installs the operator there — correct KUBECONFIG"}
	}
	return d.say(ctx, "get", "nodes")
}

// operator installs it, unless the user's own cluster has one and no images are
// named.
func (d *demo) operator(ctx context.Context) error {
	if d.existing && (os.Getenv("OPERATOR_IMAGE") == "" || os.Getenv("MEMBER_IMAGE") == "" || os.Getenv("BACKUP_IMAGE") == "") {
		if _, err := d.output(ctx, "-n", "quorate-system", "get", "deployment", "quorate-operator"); err != nil {
			return unsuited{"your cluster has no operator, and OPERATOR_IMAGE, MEMBER_IMAGE and BACKUP_IMAGE are not set — its nodes have to pull them — push them (make images says how) and name them"}
		}
		fmt.Println("    the one that is installed")
	} else if err := d.stream(ctx, "make", "deploy"); err != nil {
		return err
	}
	return d.say(ctx, "-n", "quorate-system", "get", "pods")
}

// cluster applies the sample and follows its status until it is Ready.
func (d *demo) cluster(ctx context.Context) error {
	text, err := os.ReadFile(filepath.Join(d.root, sample))
	if err != nil {
		return fmt.Errorf("reading the sample: %w", err)
	}
	fmt.Print(indent(string(text)))
	start := time.Now()
	fmt.Printf("$ kubectl apply -f %s\n", sample)
	out, err := d.output(ctx, "apply", "-f", sample)
	if err != nil {
		return err
	}
	fmt.Print(indent(out))
	d.created = strings.HasSuffix(out, " created")
	if err := d.follow(ctx, start); err != nil {
		return err
	}
	d.ready = time.Since(start)
	d.first, err = d.output(ctx, "get", "ec", name, "-o", "jsonpath={.status.members[0].name}")
	return err
}

// follow prints each change of the status until the cluster is Ready.
func (d *demo) follow(ctx context.Context, start time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	// Not tabs: kubectl makes columns of them.
	const between = " | "
	const columns = `jsonpath={.status.membersSummary}` +
		`{" | "}{.status.conditions[?(@.type=="Ready")].status}` +
		`{" | "}{.status.conditions[?(@.type=="Ready")].reason}` +
		`{" | "}{.status.conditions[?(@.type=="Ready")].message}{"\n"}`
	watch := exec.CommandContext(ctx, d.kubectl, "get", "ec", name, "--watch", "-o", columns)
	watch.Stderr = os.Stderr
	changes, err := watch.StdoutPipe()
	if err != nil {
		return fmt.Errorf("watching the cluster: %w", err)
	}
	if err := watch.Start(); err != nil {
		return fmt.Errorf("watching the cluster: %w", err)
	}
	defer func() { cancel(); _ = watch.Wait() }()
	before := ""
	for lines := bufio.NewScanner(changes); lines.Scan(); {
		now := strings.SplitN(lines.Text(), between, 4)
		if len(now) < 4 || now[1] == "" || lines.Text() == before {
			continue
		}
		before = lines.Text()
		fmt.Printf("    [%6s] %s %s: %s\n", seconds(time.Since(start)), now[0], now[2], now[3])
		if now[1] == "True" {
			return nil
		}
	}
	return fmt.Errorf("waiting for the cluster to become Ready: %w — kubectl describe ec %s says what is in the way", context.Cause(ctx), name)
}

// show has the cluster do what it is for.
func (d *demo) show(ctx context.Context) error {
	// The kubelet tells of a pod a moment after the operator has asked etcd.
	if _, err := d.output(ctx, "wait", "pods", "-l", members, "--for=condition=Ready", "--timeout=60s"); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"get", "pods", "-l", members},
		{"get", "ec"},
		{"exec", d.first, "--", "etcdctl", "endpoint", "status", "--cluster", "-w", "table"},
		{"exec", d.first, "--", "etcdctl", "put", "test", value},
	} {
		if err := d.say(ctx, args...); err != nil {
			return err
		}
	}
	got, err := d.output(ctx, "exec", d.first, "--", "etcdctl", "get", "test", "--print-value-only")
	if err != nil {
		return err
	}
	fmt.Printf("$ kubectl exec %s -- etcdctl get test --print-value-only\n%s", d.first, indent(got))
	if got != value {
		return fmt.Errorf("the cluster returned %q for what was put as %q", got, value)
	}
	return nil
}

func (d *demo) close() {
	if d.created {
		fmt.Printf("\nFrom apply to Ready: %s. The cluster stays up; go on with\n\n", seconds(d.ready))
	} else {
		fmt.Printf("\nThe etcd cluster was there already (kubectl delete ec %s, and make demo again measures a new one). Go on with\n\n", name)
	}
	if d.existing {
		fmt.Printf("  export KUBECONFIG=%s\n", os.Getenv("KUBECONFIG"))
	} else {
		fmt.Printf("  export KUBECONFIG=%s\n  export PATH=%s:$PATH\n", os.Getenv("KUBECONFIG"), filepath.Join(d.root, ".cluster", "bin"))
	}
	fmt.Printf("  kubectl delete pod %s && kubectl get pods -w    # it comes back on its volume, as the same member\n", d.first)
	fmt.Printf("  kubectl exec %s -- etcdctl member list -w table\n", d.first)
	fmt.Printf("  kubectl describe ec %s                          # conditions, members, events\n", name)
	if d.elects {
		fmt.Printf("  kubectl exec deploy/%s -- /leader-elector watch      # every change of the leader, as an application sees it\n", example)
	}
	if !d.existing {
		fmt.Print("\nmake cluster-down removes the three nodes and all that runs on them.\n")
	}
}

// say prints a kubectl command and what it answers.
func (d *demo) say(ctx context.Context, args ...string) error {
	out, err := d.output(ctx, args...)
	if err != nil {
		return err
	}
	shown := make([]string, 0, len(args))
	for _, a := range args {
		if strings.Contains(a, " ") {
			a = `"` + a + `"`
		}
		shown = append(shown, a)
	}
	fmt.Printf("$ kubectl %s\n%s", strings.Join(shown, " "), indent(out))
	return nil
}

// output of a kubectl command.
func (d *demo) output(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, d.kubectl, args...)
	var failure strings.Builder
	cmd.Dir, cmd.Stderr = d.root, &failure
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("running kubectl %s: %w\n%s", strings.Join(args, " "), err, strings.TrimSpace(failure.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// stream runs a program and prints what it says, as it says it.
func (d *demo) stream(ctx context.Context, program string, args ...string) error {
	fmt.Printf("$ %s %s\n", program, strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = d.root
	reader, writer := io.Pipe()
	cmd.Stdout, cmd.Stderr = writer, writer
	printed := make(chan struct{})
	go func() {
		defer close(printed)
		for lines := bufio.NewScanner(reader); lines.Scan(); {
			fmt.Printf("    %s\n", lines.Text())
		}
		_, _ = io.Copy(io.Discard, reader) // a line beyond the scanner's limit must not block the program
	}()
	err := cmd.Run()
	_ = writer.Close()
	<-printed
	if err != nil {
		return fmt.Errorf("running %s %s: %w", program, strings.Join(args, " "), err)
	}
	return nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

func indent(text string) string {
	var out strings.Builder
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		out.WriteString("    " + line)
	}
	return out.String()
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndex(text, "\n")+1:]
}
