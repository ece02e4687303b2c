"""Role `net`: apply a validated network plan to the one link that it names."""

from ccinit.agent.processes.child import JobChannel
from ccinit.boot.network_offer import NetworkPlan, NetworkReady
from ccinit.kernel.netlink import LOOPBACK_INDEX, NetworkLinks


def run(request: NetworkPlan, _channel: JobChannel) -> NetworkReady:
    """Do the job."""
    with NetworkLinks() as links:
        links.set_link_up(LOOPBACK_INDEX)
        index = links.find_link(request.mac)
        links.set_mtu(index, request.mtu)
        links.set_link_up(index)
        links.add_address(index, request.address, request.prefix)
        links.add_default_route(index, request.gateway, on_link=request.gateway_on_link)
    return NetworkReady()
