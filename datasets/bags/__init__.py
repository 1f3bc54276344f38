"""Bags of ROS 1 and 2 and MCAP logs: in as episodes of steps, and out again for the viewers of robot logs.

recording        one bag as its messages; mcap_recording, sqlite_recording and rosbag1_recording for each container
finding          which paths are bags; bag_files opens them: folders, split and compressed bags
message_types    types from the definitions in a bag
layout           many messages as one numpy array
series           one topic as numbers over time; trajectory does so for trajectories that an arm was sent
mapping          how topics become observations and actions, as a TOML file; draft proposes one
steps            series at the steps of a grid; quality says how good the log is
reader           BagReader, the reader of this format
writer           episodes as bags; embedded is what it leaves in them for the way back
"""
