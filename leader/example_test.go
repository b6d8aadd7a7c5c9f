package leader_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/quorate/quorate/leader"
	"github.com/quorate/quorate/leader/leadertest"
)

// In a pod the Leases are those of leader.InCluster, and the identity is that of
// leader.DefaultIdentity. Here they are in memory.
func exampleElector(server *leadertest.Server, identity string) *leader.Elector {
	elector, err := leader.New(leader.Config{
		Election: "example", Identity: identity, Leases: server.Client(), LeaseDuration: 10 * time.Second,
	})
	if err != nil {
		panic(err)
	}
	return elector
}

// Run contends for as long as its context lasts. Do runs the work for each term, with
// a context that ends no later than the claim; the Lease is released when the work has
// returned, and no sooner.
func ExampleElector_Do() {
	ctx, stop := context.WithCancel(context.Background())
	elector := exampleElector(leadertest.NewServer(), "pod-a")
	ended := make(chan error, 1)
	go func() { ended <- elector.Run(ctx) }()

	err := elector.Do(ctx, func(ctx context.Context, term *leader.Term) error {
		fmt.Println("lead with token", term.Token())
		stop() // as a signal would
		<-ctx.Done()
		fmt.Println("stop working")
		return nil
	})
	fmt.Println("Do:", err)
	fmt.Println("Run:", <-ended)
	// Output:
	// lead with token 1
	// stop working
	// Do: <nil>
	// Run: <nil>
}

// Lead waits for a term. Its token belongs into everything that is written meanwhile,
// and Check right before what cannot carry one.
func ExampleElector_Lead() {
	ctx, stop := context.WithCancel(context.Background())
	server := leadertest.NewServer()
	first, second := exampleElector(server, "pod-a"), exampleElector(server, "pod-b")
	var running sync.WaitGroup
	running.Go(func() { _ = first.Run(ctx) })
	old, err := first.Lead(ctx)
	if err != nil {
		panic(err)
	}
	running.Go(func() { _ = second.Run(ctx) })

	if err := first.Resign(ctx, time.Minute); err != nil {
		panic(err)
	}
	term, err := second.Lead(ctx)
	if err != nil {
		panic(err)
	}
	fmt.Println("pod-a:", old.Check())
	fmt.Println("pod-b leads:", term.Check() == nil)
	fmt.Println("its token is greater:", term.Token() > old.Token())
	stop()
	running.Wait()
	// Output:
	// pod-a: the leadership was resigned
	// pod-b leads: true
	// its token is greater: true
}

// Handler answers as the sidecar does, in the application's own server.
func ExampleElector_Handler() {
	ctx, stop := context.WithCancel(context.Background())
	elector := exampleElector(leadertest.NewServer(), "pod-a")
	var running sync.WaitGroup
	running.Go(func() { _ = elector.Run(ctx) })
	if _, err := elector.Lead(ctx); err != nil {
		panic(err)
	}
	server := httptest.NewServer(elector.Handler())
	defer server.Close()

	ask := func() string {
		response, err := http.Get(server.URL)
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return string(body)
	}
	fmt.Println(ask())
	stop()
	running.Wait()
	fmt.Println(ask())
	// Output:
	// {"name":"pod-a"}
	// {"name":""}
}
