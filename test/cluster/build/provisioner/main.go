// Command provisioner makes the volumes of the test cluster: directories on the
// machine's disk, offered as local PersistentVolumes. A volume of placement
// "any" can be used on every node (the nodes share one file system, so it
// behaves as network storage does); one of placement "node" is bound to the
// node that was chosen for it, as a local disk is.
package main

import (
	"context"
	"errors"
	"flag"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API server")
	name := flag.String("name", "", "the provisioner name that StorageClasses use")
	root := flag.String("root", "", "the directory in which volumes are made")
	ready := flag.String("ready", "", "the address on which /ready answers once claims are watched")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *kubeconfig, *name, *root, *ready); err != nil {
		klog.ErrorS(err, "The provisioner stopped")
		os.Exit(1)
	}
}

func run(ctx context.Context, kubeconfig, name, root, ready string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 200, 400
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	claims := factory.Core().V1().PersistentVolumeClaims().Informer()
	volumes := factory.Core().V1().PersistentVolumes()
	classes := factory.Storage().V1().StorageClasses().Informer()
	grow := &expander{client: client, volumes: volumes.Lister(), provisioner: name}
	if _, err := claims.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { grow.claimChanged(ctx, o) },
		UpdateFunc: func(_, o any) { grow.claimChanged(ctx, o) },
	}); err != nil {
		return err
	}
	c := controller.NewProvisionController(ctx, client, name, &directories{root: root},
		controller.LeaderElection(false),
		controller.ClaimsInformer(claims),
		controller.VolumesInformer(volumes.Informer()),
		controller.ClassesInformer(classes),
	)
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	go c.Run(ctx)
	return serveReady(ctx, ready)
}

// serveReady says that the provisioner works, until ctx ends.
func serveReady(ctx context.Context, address string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/ready", func(http.ResponseWriter, *http.Request) {})
	server := &http.Server{Addr: address, Handler: mux}
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
