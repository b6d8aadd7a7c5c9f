package member

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// Annotations of a member's Pod. The operator writes them, the kubelet copies them
// into a file of the pod (downward API), and the guard obeys them at its next start
// of etcd. What a pod is allowed to do stands here and not in its command line,
// because a pod's spec cannot be changed once etcd has booted.
const (
	// AnnotationInitialCluster is the value of etcd's --initial-cluster.
	AnnotationInitialCluster = "etcd.quorate.dev/initial-cluster"
	// AnnotationInitialClusterState is the value of etcd's --initial-cluster-state:
	// ClusterStateNew or ClusterStateExisting.
	AnnotationInitialClusterState = "etcd.quorate.dev/initial-cluster-state"
	// AnnotationMayBeEmpty is "true" as long as this member is not known to have
	// started. Absent, or anything but exactly "true", means false.
	AnnotationMayBeEmpty = "etcd.quorate.dev/may-be-empty"
	// AnnotationHold is "true" on a replacement that must wait for its member ID.
	// Absent, empty or "false" means no; every other value holds.
	AnnotationHold = "etcd.quorate.dev/hold"
	// AnnotationRelease ends a hold. Its value is the member ID that etcd gave,
	// in hexadecimal, and it is written together with the live member list in
	// AnnotationInitialCluster.
	AnnotationRelease = "etcd.quorate.dev/release"
)

// Values of AnnotationInitialClusterState.
const (
	ClusterStateNew      = "new"
	ClusterStateExisting = "existing"
)

// maxAnnotationsFile bounds what is read of the file: Kubernetes allows 256 KiB of
// annotations per object, and quoting makes at most four bytes of one.
const maxAnnotationsFile = 1<<20 + 64<<10

// Annotations are the guard's orders, parsed.
type Annotations struct {
	InitialCluster      string
	InitialClusterState string // ClusterStateNew or ClusterStateExisting
	MayBeEmpty          bool
	Hold                bool
	// Release is the member ID that ended a hold, 0 while there is none.
	Release uint64
}

// Held reports whether the member must still wait for its release.
func (a Annotations) Held() bool { return a.Hold && a.Release == 0 }

// EffectiveClusterState is the state to start etcd with. A held member is by
// definition one that joins, so it never founds a cluster, whatever is written.
func (a Annotations) EffectiveClusterState() string {
	if a.Hold {
		return ClusterStateExisting
	}
	return a.InitialClusterState
}

// ReadAnnotations reads and parses the downward-API file at path. The error tells
// what is wrong with the file; a caller that expects the kubelet to still write it
// tries again.
func ReadAnnotations(path string) (Annotations, error) {
	file, err := os.Open(path)
	if err != nil {
		return Annotations{}, fmt.Errorf("opening annotations: %w", err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxAnnotationsFile+1))
	if err != nil {
		return Annotations{}, fmt.Errorf("reading annotations: %w", err)
	}
	if len(content) > maxAnnotationsFile {
		return Annotations{}, fmt.Errorf("reading annotations: %s is larger than %d bytes", path, maxAnnotationsFile)
	}
	return ParseAnnotations(content)
}

// ParseAnnotations parses lines of the form key="Go-quoted value", as the kubelet
// writes them. Annotations of others are skipped, but every line must be whole: a
// file that was cut off is refused rather than read as "this annotation is absent".
func ParseAnnotations(content []byte) (Annotations, error) {
	values := map[string]string{}
	number := 0
	for line := range bytes.Lines(content) {
		number++
		text := strings.TrimSuffix(string(line), "\n")
		if text == "" {
			continue
		}
		key, value, err := parseAnnotation(text)
		if err != nil {
			return Annotations{}, fmt.Errorf("parsing annotations: line %d: %w", number, err)
		}
		if _, twice := values[key]; twice {
			return Annotations{}, fmt.Errorf("parsing annotations: line %d: %s stands there twice", number, key)
		}
		values[key] = value
	}
	return annotationsFrom(values)
}

func parseAnnotation(line string) (key, value string, err error) {
	key, quoted, found := strings.Cut(line, "=")
	if !found || key == "" {
		return "", "", errors.New(`not of the form key="value"`)
	}
	if !strings.HasPrefix(quoted, `"`) {
		return "", "", fmt.Errorf("value of %q is not quoted", key)
	}
	value, err = strconv.Unquote(quoted)
	if err != nil {
		return "", "", fmt.Errorf("value of %q is cut off or wrongly quoted", key)
	}
	return key, value, nil
}

func annotationsFrom(values map[string]string) (Annotations, error) {
	a := Annotations{
		InitialCluster:      values[AnnotationInitialCluster],
		InitialClusterState: values[AnnotationInitialClusterState],
		MayBeEmpty:          values[AnnotationMayBeEmpty] == "true",
	}
	if a.InitialCluster == "" || strings.ContainsAny(a.InitialCluster, "\x00\n") {
		return Annotations{}, fmt.Errorf("parsing annotations: %s is %q, not a member list", AnnotationInitialCluster, a.InitialCluster)
	}
	if a.InitialClusterState != ClusterStateNew && a.InitialClusterState != ClusterStateExisting {
		return Annotations{}, fmt.Errorf("parsing annotations: %s is %q, neither %s nor %s",
			AnnotationInitialClusterState, a.InitialClusterState, ClusterStateNew, ClusterStateExisting)
	}
	switch values[AnnotationHold] {
	case "", "false":
	default:
		// A misspelt "True" must not let a replacement start before its MemberAdd.
		a.Hold = true
	}
	if release := values[AnnotationRelease]; release != "" {
		id, err := strconv.ParseUint(release, 16, 64)
		if err != nil || id == 0 {
			return Annotations{}, fmt.Errorf("parsing annotations: %s is %q, not a member ID in hexadecimal", AnnotationRelease, release)
		}
		a.Release = id
	}
	return a, nil
}
