package integration

func runChild() {}
