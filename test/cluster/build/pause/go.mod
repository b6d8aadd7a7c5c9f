module github.com/quorate/quorate/test/cluster/build/pause

go 1.26.0
