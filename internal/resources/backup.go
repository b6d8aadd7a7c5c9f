package resources

import (
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/quorate/quorate/api/v1alpha1"
	"github.com/quorate/quorate/internal/pki"
	"github.com/quorate/quorate/internal/snapshot"
)

const (
	// BackupContainer is the name of the container that does the work of a backup.
	BackupContainer = "backup"

	backupBinary    = "/backup"
	backupDir       = "/quorate/backup"
	installedBackup = backupDir + "/backup"
	workDir         = "/work"

	// workRetries is how often a pod that failed is followed by another. Each of them
	// tries several times itself, and the pauses between them grow from 10 s.
	workRetries = 3
	// workKept is how long an ended Job and its pods' logs are kept.
	workKept = 24 * time.Hour
	// pruneTimeout bounds how long the deletion of an EtcdBackup may take, and its Job
	// is kept as long again.
	pruneTimeout = 2 * time.Minute
)

// Work is one piece of work for a backup: what a Job is made from, apart from the
// EtcdBackup.
type Work struct {
	// Operation is one of save, drill and prune.
	Operation snapshot.Operation
	// BackupImage holds the program.
	BackupImage string
	// EtcdImage holds etcd and etcdutl, for a drill or a check.
	EtcdImage string
	// Cluster that is backed up; nil when it is gone, and was there once. It is needed
	// to save.
	Cluster *v1alpha1.EtcdCluster
}

// JobName of a piece of work for a backup.
func JobName(backup string, operation snapshot.Operation) string {
	return backup + "-" + string(operation)
}

// BackupJob is the Job that does the work. It has no owner that a deletion of its
// backup could cascade from before its objects are gone, and no right to anything in
// Kubernetes.
func BackupJob(b *v1alpha1.EtcdBackup, w Work) *batchv1.Job {
	labels := BackupLabels(b)
	labels["app.kubernetes.io/component"] = string(w.Operation)
	annotations := map[string]string{}
	if e := b.Spec.Encryption; e != nil && w.Operation == snapshot.OperationSave {
		annotations[v1alpha1.AnnotationRecipients] = strings.Join(e.Recipients, "\n")
	}
	timeout, kept := b.Spec.Timeout.Duration, workKept
	if w.Operation == snapshot.OperationPrune {
		timeout, kept = pruneTimeout, pruneTimeout
	}
	job := workJob(metav1.ObjectMeta{
		Name: JobName(b.Name, w.Operation), Namespace: b.Namespace, Labels: identified(labels, b.Spec.Store), OwnerReferences: owners(b, w.Operation),
	}, timeout, workSpec(b.Spec.ServiceAccountName, workMounts(b, w), w))
	job.Spec.TTLSecondsAfterFinished = new(int32(kept.Seconds()))
	job.Spec.Template.Annotations = annotations
	return job
}

// workJob is a Job of the backup program. Its pods carry its labels.
func workJob(is metav1.ObjectMeta, timeout time.Duration, spec corev1.PodSpec) *batchv1.Job {
	return &batchv1.Job{
		ObjectMeta: is,
		Spec: batchv1.JobSpec{
			BackoffLimit:          new(int32(workRetries)),
			ActiveDeadlineSeconds: seconds(timeout),
			PodFailurePolicy:      giveUpEarly(),
			Template:              corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: is.Labels}, Spec: spec},
		},
	}
}

// MadeBy says that the pod is the Job's, and not of one that bore its name before: a Job that is
// made again finds the pods of the last one, which go after it. Whose a pod is says a label that
// the controller of Jobs sets; a pod without it was made by somebody else.
func MadeBy(pod *corev1.Pod, job *batchv1.Job) bool {
	return pod.Labels[batchv1.ControllerUidLabel] == string(job.UID)
}

// EndedWorker is how the backup program has ended in a pod; nil while it has not.
func EndedWorker(pod *corev1.Pod) *corev1.ContainerStateTerminated {
	return ended(pod.Status.ContainerStatuses, BackupContainer)
}

// EndedFiller is how that has ended which fills a member's volume; nil while it has not, and
// for a pod without it.
func EndedFiller(pod *corev1.Pod) *corev1.ContainerStateTerminated {
	return ended(pod.Status.InitContainerStatuses, RestoreContainer)
}

// Fills says that whoever fills a member's volume runs in the pod, and can be asked how far it is.
func Fills(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp.IsZero() && pod.Status.PodIP != "" && slices.ContainsFunc(pod.Status.InitContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.Name == RestoreContainer && s.State.Running != nil
	})
}

func ended(statuses []corev1.ContainerStatus, name string) *corev1.ContainerStateTerminated {
	for i := range statuses {
		if statuses[i].Name == name {
			return statuses[i].State.Terminated
		}
	}
	return nil
}

// BackupLabels of what works for a backup: none of them is a member's, so that no
// selector of a cluster finds it.
func BackupLabels(b *v1alpha1.EtcdBackup) map[string]string {
	return map[string]string{
		"app.kubernetes.io/name":       "etcd-backup",
		"app.kubernetes.io/instance":   b.Name,
		"app.kubernetes.io/managed-by": "quorate",
		v1alpha1.LabelBackup:           b.Name,
		v1alpha1.LabelBackupUID:        string(b.UID),
	}
}

// owners of a Job. One that deletes a backup's objects must outlive the backup's
// other dependents: a deletion in the foreground would take it before it has run.
func owners(b *v1alpha1.EtcdBackup, operation snapshot.Operation) []metav1.OwnerReference {
	if operation == snapshot.OperationPrune {
		return nil
	}
	return []metav1.OwnerReference{*metav1.NewControllerRef(b, v1alpha1.GroupVersion.WithKind("EtcdBackup"))}
}

func seconds(d time.Duration) *int64 {
	if d <= 0 {
		return nil
	}
	return new(int64(d.Seconds()))
}

// giveUpEarly does not count a pod that somebody else has ended, such as a node that is
// drained, and ends a Job whose next try would fail as well. The first rule that fits is the
// one that counts: what a pod says while it is ended must not be the last word.
func giveUpEarly() *batchv1.PodFailurePolicy {
	return &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
		{
			Action: batchv1.PodFailurePolicyActionIgnore,
			OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{
				{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue},
			},
		},
		{
			Action: batchv1.PodFailurePolicyActionFailJob,
			OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
				ContainerName: new(BackupContainer), Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{snapshot.ExitPermanent},
			},
		},
	}}
}

func workSpec(serviceAccount string, m mounted, w Work) corev1.PodSpec {
	spec := corev1.PodSpec{
		AutomountServiceAccountToken: new(false),
		EnableServiceLinks:           new(false),
		ServiceAccountName:           serviceAccount,
		RestartPolicy:                corev1.RestartPolicyNever,
		SecurityContext:              podSecurity(v1alpha1.PodTemplate{}),
		Volumes:                      m.volumes,
	}
	worker := corev1.Container{
		Name:                     BackupContainer,
		Image:                    w.BackupImage,
		ImagePullPolicy:          corev1.PullIfNotPresent,
		Command:                  append([]string{backupBinary, string(w.Operation)}, m.flags...),
		Resources:                workResources(w.Operation),
		SecurityContext:          containerSecurity(),
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		Ports:                    []corev1.ContainerPort{{Name: "progress", ContainerPort: snapshot.ProgressPort, Protocol: corev1.ProtocolTCP}},
		VolumeMounts:             m.mounts,
	}
	if servesEtcd(w.Operation) || w.Operation == snapshot.OperationCheck {
		spec.InitContainers = []corev1.Container{backupInstaller(w.BackupImage)}
		worker.Image = w.EtcdImage
		worker.Command[0] = installedBackup
	}
	if c := w.Cluster; c != nil {
		t := c.Spec.PodTemplate
		spec.Tolerations, spec.NodeSelector, spec.ImagePullSecrets = t.Tolerations, t.NodeSelector, t.ImagePullSecrets
		if t.SeccompProfile != nil || t.AppArmorProfile != nil {
			spec.SecurityContext = podSecurity(t)
		}
	}
	spec.Containers = []corev1.Container{worker}
	return spec
}

// workMounts are the flags of the operation, and what they speak of.
func workMounts(b *v1alpha1.EtcdBackup, w Work) mounted {
	m := store(b.Spec.Store)
	m.flag("--cluster-uid=" + b.Status.ClusterUID)
	m.mount("tmp", "/tmp", emptyDir("16Mi"))
	switch w.Operation {
	case snapshot.OperationSave:
		m.save(b, w.Cluster)
	case snapshot.OperationDrill:
		m.flag("--backup="+b.Status.ID, "--work-dir="+workDir)
		m.rateLimit(b.Spec.RateLimit)
		m.identity(b.Spec.Encryption)
		m.workingDir(drillRoom(b))
	case snapshot.OperationPrune:
		if b.Status.ID == "" {
			m.flag("--drop-made-by="+string(b.UID), "--name="+b.Name)
		} else {
			m.flag("--drop=" + b.Status.ID)
		}
	}
	return m
}

func (m *mounted) save(b *v1alpha1.EtcdBackup, c *v1alpha1.EtcdCluster) {
	m.flag(
		"--name="+b.Name,
		"--uid="+string(b.UID),
		"--cluster-namespace="+b.Namespace,
		"--cluster-name="+c.Name,
	)
	m.members(c)
	m.rateLimit(b.Spec.RateLimit)
	m.recipients(b.Spec.Encryption)
}

// rateLimit in bytes a second, for what gives way to the cluster.
func (m *mounted) rateLimit(limit resource.Quantity) {
	m.flag(fmt.Sprintf("--rate-limit=%d", limit.Value()))
}

// members are those that a program reads from.
func (m *mounted) members(c *v1alpha1.EtcdCluster) {
	m.flag("--cluster-id="+c.Status.ClusterID, "--endpoints="+strings.Join(clientURLs(c), ","))
	if !servesPlaintext(c) {
		m.flag("--etcd-ca="+tlsDir+"/"+pki.KeyCA, "--etcd-cert="+tlsDir+"/"+pki.KeyCert, "--etcd-key="+tlsDir+"/"+pki.KeyKey)
		m.secret("tls", tlsDir, &v1alpha1.SecretReference{Name: pki.ClientSecret(c.Name)})
	}
}

// drillRoom bounds what a drill writes to its node: the snapshot, what is restored from it,
// and etcd's log. Whoever can write to the store could make it more. It is nil while nobody
// has recorded how large the database is.
func drillRoom(b *v1alpha1.EtcdBackup) *resource.Quantity {
	const log = 1 << 30
	size := b.Status.DatabaseSize
	if size == nil || size.Sign() <= 0 {
		return nil
	}
	return resource.NewQuantity(3*size.Value()+log, resource.BinarySI)
}

// workingDir has room for what is restored on trial, and for the program.
func (m *mounted) workingDir(room *resource.Quantity) {
	m.mount("work", workDir, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: room}})
	m.mount("backup", backupDir, emptyDir("256Mi"))
}

// servesEtcd says that the work has an etcd of its own serve something.
func servesEtcd(operation snapshot.Operation) bool {
	return operation == snapshot.OperationDrill || operation == snapshot.OperationDrillArchive || operation == snapshot.OperationRebuild
}

// servesPlaintext says that every member takes plaintext, and that some may take nothing
// else.
func servesPlaintext(c *v1alpha1.EtcdCluster) bool { return !TLS(c) || c.Status.PlaintextPeers }

// clientURLs of the members that vote: a learner sends no snapshot that counts.
func clientURLs(c *v1alpha1.EtcdCluster) []string {
	var urls []string
	s := "https"
	if servesPlaintext(c) {
		s = "http"
	}
	for _, m := range c.Status.Members {
		if m.Role == v1alpha1.RoleVoter {
			urls = append(urls, fmt.Sprintf("%s://%s:%d", s, MemberHost(c, m.Name), ClientPort))
		}
	}
	return urls
}

// backupInstaller brings the program into a pod of etcd's image, whose etcd and
// etcdutl it uses.
func backupInstaller(image string) corev1.Container {
	return corev1.Container{
		Name:            InstallContainer,
		Image:           image,
		Command:         []string{backupBinary, "install", installedBackup},
		ImagePullPolicy: corev1.PullIfNotPresent,
		SecurityContext: containerSecurity(),
		Resources:       workResources(snapshot.OperationList),
		VolumeMounts:    []corev1.VolumeMount{{Name: "backup", MountPath: backupDir}},
	}
}

// workResources: streaming takes the same memory at any size; a drill runs a whole
// etcd, whose database counts as memory of the pod while it is read.
func workResources(operation snapshot.Operation) corev1.ResourceRequirements {
	if servesEtcd(operation) || operation == snapshot.OperationRestore || operation == snapshot.OperationRecover {
		return corev1.ResourceRequirements{
			Requests: quantities("100m", "256Mi"),
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("4Gi")},
		}
	}
	return corev1.ResourceRequirements{
		Requests: quantities("50m", "96Mi"),
		Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
	}
}

func emptyDir(limit string) corev1.VolumeSource {
	return corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: new(resource.MustParse(limit))}}
}
