// Package leader elects one of several candidates, and never lets two of them
// believe that they lead at the same time.
//
// The candidates contend for a coordination.k8s.io Lease. Whoever holds it renews
// it; the others watch it and take over when it was released, or when it has not
// changed for as long as it promises. Every answer is worked out from the clock at
// the moment at which it is given, so that a candidate that was frozen, cut off or
// whose API server hangs stops claiming in time, whether any of its code could run
// or not.
//
//	elector, err := leader.New(leader.Config{Election: "example", Leases: leases})
//	go elector.Run(ctx)
//	err = elector.Do(ctx, func(ctx context.Context, term *leader.Term) error {
//		return work(ctx, term.Token()) // ctx ends no later than the claim
//	})
//
// No lease can stop a leader that was paused in the middle of a write: what it
// writes to must refuse old tokens, see [Term.Token].
package leader
